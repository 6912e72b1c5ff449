"""How much a script asks of its reader: logical lines, and names that are not its own.

A *line* is a statement of Python, whatever its length; a docstring is none.  A *concept* is a
distinct name that the user must know and did not invent: a module or a name that is imported, an
attribute, a keyword of a call, and each word of two or more letters in a string, since
``"cifar10:test"`` and ``"Linf"`` are choices of a library, too.  Builtins of Python, names that the
script binds, and the user's own module ``mine`` count nothing; an attribute of ``self`` is the
script's own where it sets it.  In a command of the shell, every
line and every word counts: the subcommand, the options, and the words of their values.
"""

import ast
import builtins
import re
from dataclasses import dataclass
from pathlib import Path

OWN = "mine"
WORD = re.compile(r"[A-Za-z_]\w+")


@dataclass(frozen=True)
class Counts:
    lines: int
    lines_with_imports: int
    concepts: tuple[str, ...]


def count(file: Path) -> Counts:
    """The counts of a script by its suffix."""
    text = file.read_text()
    return count_shell(text) if file.suffix == ".sh" else count_python(text)


def count_python(text: str) -> Counts:
    """
    >>> count_python("from a import f\\nx = f(k='one two')\\n")
    Counts(lines=1, lines_with_imports=2, concepts=('a', 'f', 'k', 'one', 'two'))
    """
    tree = ast.parse(text)
    statements = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and not _is_text(n)]
    imports = [n for n in statements if isinstance(n, ast.Import | ast.ImportFrom)]
    own = _bound(tree)
    names = {word for node in ast.walk(tree) for word in _words(node, own)}
    known = names - {"", OWN, *dir(builtins)}
    return Counts(len(statements) - len(imports), len(statements), tuple(sorted(known)))


def count_shell(text: str) -> Counts:
    """
    >>> count_shell("tool run --eps 8/255 > out.json")
    Counts(lines=1, lines_with_imports=1, concepts=('eps', 'json', 'out', 'run', 'tool'))
    """
    joined = text.replace("\\\n", " ").splitlines()
    lines = [line for line in joined if line.strip() and not line.startswith("#")]
    words = {word for line in lines for word in WORD.findall(line.replace("-", " "))}
    return Counts(len(lines), len(lines), tuple(sorted(words)))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and _is_string(node.value)


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _words(node: ast.AST, own: set[str]) -> list[str]:
    """The names that a node of the tree mentions, but for the user's ``own``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        names = [] if node.module == OWN else [alias.name for alias in node.names]
        return [node.module or "", *names]
    if isinstance(node, ast.Attribute):
        is_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        return [] if is_self and node.attr in own else [node.attr]
    if isinstance(node, ast.keyword):
        return [node.arg or ""]
    if isinstance(node, ast.Name):
        return [] if node.id in own else [node.id]
    if isinstance(node, ast.Expr) and _is_string(node.value):
        node.value.value = ""  # a docstring
    return WORD.findall(node.value) if _is_string(node) else []


def _bound(tree: ast.AST) -> set[str]:
    """The names that the script itself makes, and those of the user's own module."""
    bound: set[str] = {"self"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            bound.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound.update(alias.asname for alias in node.names if alias.asname)
            own = isinstance(node, ast.ImportFrom) and node.module == OWN
            bound.update(alias.name for alias in node.names if own)
    return bound
