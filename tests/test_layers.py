"""The architecture, as a test: a module imports its own part, and parts of lower layers."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "scoreag"
LAYERS = [  # each may import those above it, and its own files
    ["registry"],
    ["core"],
    ["io"],
    ["stats"],
    ["diffusion"],
    ["models"],
    ["data"],
    ["classifiers"],
    ["metrics"],
    ["methods"],
    ["attacks"],
    ["defenses"],
    ["certify"],
    ["training"],
    ["assess"],
    ["evaluation"],
    ["study"],
    ["report"],
    ["plot"],
    ["scoreag"],  # the package itself, that is, the public names
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = [f for f in sorted(ROOT.rglob("*.py")) if f != ROOT / "__init__.py"]


def absolute(node: ast.ImportFrom, file: Path) -> str:
    """``from ..core import x`` in scoreag/diffusion/solver.py is an import from scoreag.core."""
    if not node.level:
        return node.module or ""
    package = ["scoreag", *file.relative_to(ROOT).parts[:-1]]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def imports(source: str, file: Path) -> list[str]:
    """All modules that a file imports, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node, file)
            inside = module == "scoreag"  # from scoreag import core
            found += [f"{module}.{a.name}" for a in node.names] if inside else [module]
    return found


def parts(source: str, file: Path) -> set[str]:
    """The parts of this package that a file imports: scoreag.core.rng -> core"""
    own = [m.split(".") for m in imports(source, file) if m.split(".")[0] == "scoreag"]
    return {m[1] if len(m) > 1 and is_part(m[1]) else "scoreag" for m in own}


def is_part(name: str) -> bool:
    return name in RANK or (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir()


def misplaced(source: str, file: Path) -> set[str]:
    """The parts that a file imports, but must not."""
    here = file.relative_to(ROOT).with_suffix("").parts[0]
    assert here in RANK, f"{here} is in no layer; give it a place in LAYERS"
    others = parts(source, file) - {here}
    assert others <= RANK.keys(), f"{others - RANK.keys()} is in no layer"
    return {p for p in others if RANK[p] >= RANK[here]}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_imports_point_to_lower_layers(file):
    assert not misplaced(file.read_text(), file)


@pytest.mark.parametrize("file", sorted((ROOT / "core").glob("*.py")), ids=lambda f: f.stem)
def test_the_core_needs_torch_and_the_standard_library_only(file):
    allowed = {*sys.stdlib_module_names, "torch", "jaxtyping"}
    foreign = {m for m in imports(file.read_text(), file) if m.split(".")[0] not in allowed}
    assert all(m.startswith("scoreag.core") for m in foreign), foreign


def import_graph(root: Path) -> dict[str, set[str]]:
    """By module, the modules of the package that it imports: at its top, in functions, for types.

    A package is its ``__init__``, and ``from scoreag.io import images`` imports the module.
    """
    files = {module_name(file, root): file for file in root.rglob("*.py")}
    graph = {}
    for name, file in files.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parent = absolute(node, file)
                members = {f"{parent}.{alias.name}" for alias in node.names}
                targets |= members & files.keys() or {parent}
        graph[name] = targets & files.keys() - {name}
    return graph


def module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, the last one the first; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_module_imports_itself_over_others():
    """Imports inside functions count: they hide a circle, and do not resolve it."""
    assert not find_cycle(import_graph(ROOT))


def test_a_circle_of_imports_is_seen_wherever_it_hides(tmp_path):
    root = tmp_path / "scoreag"
    (root / "sub").mkdir(parents=True)
    sources = {
        "a": "from scoreag.b import x", "b": "def late():\n    from scoreag.sub import c",
        "sub/c": "if TYPE_CHECKING:\n    import scoreag.a", "d": "from scoreag import a",
        "sub/__init__": "", "__init__": "",
    }  # fmt: skip
    for name, source in sources.items():
        (root / f"{name}.py").write_text(source)
    assert {*find_cycle(import_graph(root))} == {"scoreag.a", "scoreag.b", "scoreag.sub.c"}


@pytest.mark.parametrize(
    "source, wrong",
    [
        (
            "import torch\nfrom scoreag.core.rng import Noise\nfrom scoreag.diffusion import prior",
            "",
        ),
        ("import scoreag.methods.synthesis", "methods"),
        ("from scoreag import methods", "methods"),
        ("from scoreag import transform", "scoreag"),
        ("from ..models.model_cards import Card", "models"),
        ("def late():\n    from scoreag.methods.result import Result", "methods"),
        ("if TYPE_CHECKING:\n    from scoreag.assess.plan import Plan", "assess"),
    ],
)
def test_a_misplaced_import_is_seen_in_every_form(source, wrong):
    assert misplaced(source, ROOT / "diffusion" / "new.py") == {*filter(None, [wrong])}
