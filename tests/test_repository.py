"""The files of the repository agree: versions, pins, workflows, pages, containers."""

import re
import shutil
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import scoreag

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def pins(name: str) -> dict[str, str]:
    """The exact version of each package of a file of constraints."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line[:1] not in ("", "#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines), "pinned twice"
    return {canonicalize_name(name): pin for name, pin in found.items()}


def needed(requirements: list[str], found: set[str] | None = None) -> set[str]:
    """All packages that these install here, as far as they are installed."""
    found = set() if found is None else found
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras
        ):
            continue
        try:
            inner = requires(name) or []
        except PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            needed([one for one in inner if "extra ==" not in one], found)
    return found


def test_every_package_that_is_installed_for_development_is_pinned() -> None:
    own = {"torch", "setuptools", "triton"}  # torch's own wheels bring what a platform needs
    names = needed([*PROJECT["dependencies"], *EXTRAS["dev"]])
    unpinned = {n for n in names - own if n not in pins("constraints.txt")}
    assert not {n for n in unpinned if not n.startswith(("nvidia", "cuda"))}


@pytest.mark.parametrize("extra", ["", "dev", "docs", "hub", "pandas", "foolbox", "study"])
def test_pins_are_versions_that_the_project_allows(extra: str) -> None:
    pinned = pins("constraints.txt")
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(text)
        pin = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), text


def test_version_is_the_same_everywhere() -> None:
    citation = load("CITATION.cff")
    assert scoreag.__version__ == PROJECT["version"] == citation["version"]
    assert f"## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == PROJECT["license"]


def test_workflows_run_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "".join(f.read_text() for f in (ROOT / ".github" / "workflows").glob("*.yml"))
    used = {word for line in re.findall(r"make ([a-z -]+)", text) for word in line.split()}
    assert {"lint", "types", "test-lowest", "wheel", "docs"} <= used <= targets


def test_tests_run_on_every_python_that_is_supported() -> None:
    matrix = load(".github/workflows/test.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert matrix == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={matrix[0]}"


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_templates_are_forms(file: Path) -> None:
    form = load(str(file.relative_to(ROOT)))
    if file.name != "config.yml":
        assert form["name"] and form["description"]
        ids = [field["id"] for field in form["body"]]
        assert len(ids) == len(set(ids))


def pages(entry: Any) -> list[str]:
    """The files of a navigation, which is a tree of titles."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [name for part in parts for name in pages(part)]


def test_site_has_every_page_of_the_docs_once() -> None:
    listed = pages(load("mkdocs.yml")["nav"])
    own = {name for name in listed if not name.startswith("repository/")}
    assert len(listed) == len(set(listed))
    assert own == {file.name for file in (ROOT / "docs").glob("*.md")}
    assert all((ROOT / n.removeprefix("repository/")).is_file() for n in set(listed) - own)


def test_command_line_page_has_every_command() -> None:
    from scoreag.cli.app import COMMANDS

    text = (ROOT / "docs" / "command-line.md").read_text()
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []


def test_container_copies_files_that_its_context_has() -> None:
    text = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists() and f"!{name}" in ignored
    assert re.findall(r" AS (\w+)$", text, re.MULTILINE) == ["base", "cpu", "cuda"]
    assert f"torch=={pins('constraints.txt')['torch']}" in text


def has_docker() -> bool:
    docker = shutil.which("docker")
    return bool(docker) and subprocess.run([docker, "info"], capture_output=True).returncode == 0


@pytest.mark.slow
def test_container_is_built_and_checks_a_classifier() -> None:
    if not has_docker():
        pytest.skip("no docker that answers")
    subprocess.run(["docker", "build", "--target", "cpu", "-t", "scoreag:test", "."], cwd=ROOT,
                   check=True)  # fmt: skip
    command = ["docker", "run", "--rm", "scoreag:test", "doctor", "--classifier", "fashion-cnn"]
    done = subprocess.run(
        [*command, "--data", "fashion-mnist:sample"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout


@pytest.mark.slow
def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    try:
        version("mkdocs-material")
        version("mkdocstrings-python")
    except PackageNotFoundError:
        pytest.skip("needs the extra docs; `make docs` installs it")
    done = subprocess.run(
        ["python", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "polyak_step" in (tmp_path / "api" / "index.html").read_text()
