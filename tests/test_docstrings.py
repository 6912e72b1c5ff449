"""What ``help()`` shows first: one line that says what a thing is or does."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "scoreag"
FILES = sorted(ROOT.rglob("*.py"))
SECTIONS = ("Args:", "Raises:", "Returns:")


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_a_docstring_begins_with_its_summary(file):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, kinds)]
    texts = {getattr(n, "name", "module"): ast.get_docstring(n) for n in nodes}
    assert not [name for name, text in texts.items() if text and text.startswith(SECTIONS)]
