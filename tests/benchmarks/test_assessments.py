"""What the results page shows of an assessment is what its folder says."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from assess.worlds_of_plans import write_world
from scoreag.cli.app import main


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    monkeypatch.chdir(write_world(tmp_path))
    with Path("plan.toml").open("a") as plan:
        plan.write('\n[attacks.purified]\nattack = "gap"\nsteps = 1\nclassifiers = "net"\n')
    assert main(["assess", "plan.toml", "--out", "out", "--quiet"]) == 0
    found = import_module("assessed").assessed(tmp_path / "out")
    return found, import_module("render_assessed").assessed(json.loads(json.dumps(found)))


def shown(cell):
    if cell["purifier_name"] != "none":
        return "attacked_accuracy_vote_of_2"
    return {"gas": "success", "gap": "accuracy"}.get(cell["component"], "success_of_right")


def test_every_cell_has_its_line_with_the_figures_of_the_summary(page, tmp_path):
    _, text = page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    lines = [line for line in text.splitlines() if line.startswith(("| net |", "| other |"))]
    cells = [cell for cell in summary["cells"].values() if cell["attack"] != "clean"]
    defences = text.split("under all attacks:")[1]
    of_cells = [line for line in lines if line.count("|") > 6 and line not in defences]
    assert len(of_cells) == len(cells) == 8
    for cell in cells:
        figures, swept = cell["metrics"], "".join(f" {k} {v}" for k, v in cell["sweep"].items())
        (line,) = [
            line for line in of_cells
            if f"| {cell['attack']}{swept} |" in line
            and ("| net | gap |" in line) == (cell["purifier_name"] == "gap")
        ]  # fmt: skip
        rate = figures[shown(cell)]
        assert f"({rate['count']}/{rate['total']})" in line or f"({rate['count']} of" in line


def test_defences_and_doubts_are_told(page):
    found, text = page
    lines = text.split("under all attacks:")[1].splitlines()
    for one in found["defences"]:
        (line,) = [line for line in lines if f"| {one['victim']} | {one['purifier']} |" in line]
        rates = [rate for name, rate in one.items() if name.endswith("_under_all")]
        assert rates and all(f"({rate['count']} of {rate['total']};" in line for rate in rates)
    assert all(doubt["says"] in text for doubt in found["doubts"])
    assert found["minutes"] >= 0
