"""The everyday tasks: one rule counts every script, and the recorded counts are today's."""

import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "everyday"
ROWS = json.loads((ROOT / "benchmarks" / "results" / "everyday.json").read_text())["rows"]
SCRIPT = '''
"""A docstring with many words."""

import library
from library.parts import Made, done as finished
from mine import network

class Own(Made):
    """More words."""

    def forward(self, images):
        self.kept, norm = library.kept, "Linf"
        return library.run(self.kept, norm=norm, eps=8 / 255)


for number, image in enumerate(Own(network())):
    finished(image, f"out/{number}.png", "cifar10:test[0:4]")
'''


@pytest.fixture
def counts(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("everyday_counts")


def test_lines_are_statements_and_concepts_names_of_others(counts):
    """By hand: class, def, assignment, return, for, call; three imports."""
    found = counts.count_python(SCRIPT)
    assert (found.lines, found.lines_with_imports) == (6, 9)
    assert {*found.concepts} == {
        "library", "library.parts", "Made", "done", "kept", "run", "norm", "Linf", "eps",
        "out", "png", "cifar10", "test",
    }  # fmt: skip


def test_a_command_counts_its_words(counts):
    found = counts.count_shell("# words\ntool run --eps 8/255 \\\n  --data a1:b2[0:4] --out out\n")
    assert {*found.concepts} == {"tool", "run", "eps", "data", "a1", "b2", "out"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['task']}-{row['tool']}")
def test_recorded_counts_are_those_of_the_scripts(row, counts):
    (script,) = SCRIPTS.glob(f"{row['task']}_{row['tool']}.*")
    found = counts.count(script)
    assert (row["lines"], row["lines_with_imports"]) == (found.lines, found.lines_with_imports)
    assert row["names"] == list(found.concepts)


def test_every_script_of_a_task_is_recorded(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tasks = import_module("everyday").TASKS
    scripts = {file.stem for file in SCRIPTS.iterdir() if file.stem.partition("_")[0] in tasks}
    assert {f"{row['task']}_{row['tool']}" for row in ROWS} == scripts
