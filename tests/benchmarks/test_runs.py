"""Benchmarks of runs as such: made-up folders are whole, and what is said is counted."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.assess.results import aggregate
from scoreag.cli.app import main
from scoreag.io.records import files_intact, read_rows


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")


def test_a_made_up_run_has_its_pictures_and_a_report(tmp_path):
    import_module("made_folders").write_run(tmp_path / "run", 20)
    rows = read_rows(tmp_path / "run")
    assert len(rows) == 20 and all(files_intact(tmp_path / "run", row) for row in rows)
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_made_up_assessment_is_whole_and_its_report_counts_its_rows(tmp_path):
    """130 images are two shards and a part of one."""
    import_module("made_folders").write_assessment(tmp_path, 130)
    assert main(["report", str(tmp_path), "--quiet"]) == 0
    account = aggregate(tmp_path)
    assert [one.state for one in account.cells] == ["done"] * 4
    attacked = account.cells[1:]
    lines = [
        line
        for one in attacked
        for file in (tmp_path / "cells" / one.cell.key).glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(lines) == 3 * 130
    fooled = sum(json.loads(line)["success"] for line in lines)
    assert sum(one.metrics["success"]["count"] for one in attacked) == fooled > 0
    assert all("frechet" in one.metrics for one in attacked)


@pytest.mark.parametrize("harm, said", [({}, "yes"), ({"rows": False}, "NO")], ids=["", "harmed"])
def test_kills_that_hit_are_counted_and_a_difference_is_told(harm, said):
    kill = {"shard": 4, "after": "it wrote rows", "moment": 0.5, "hit": True, "rows": 3, "aside": 1}
    data = {
        "rows": 8, "pictures": 9, "cells": 2, "seconds": 3.2, "left_aside": 0,
        "equal": {"rows": True, "pictures": True, **harm}, "kills": [kill, {**kill, "hit": False}],
    }  # fmt: skip
    text = import_module("render_runs").killed(data)
    assert "2 times SIGKILL, 1 of them to a process at work" in text
    assert f"nothing else left: {said}." in text


def test_a_forecast_is_told_cell_by_cell_and_in_all(capsys, tmp_path):
    words = ["--only", "*/cifar10-resnet20/none/pgd,eps=8/255", "--dry-run", "--json"]
    assert main(["assess", "quick", *words, "--out", str(tmp_path / "none")]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    rows = [row, row | {"measured_on": 0, "seconds": 3 * 3600.0, "gradients": 2000}]
    text = import_module("render_runs").forecast({"rows": rows})
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    count = row["images"]  # 256, or 20 where only the bundled ones are there
    assert lines[0].startswith(f"| cifar10-resnet20 | none | pgd,eps=8/255 | {count} |")
    assert f"| {count * 10:,} |" in lines[0] and lines[0].endswith("| yes |")  # 10 steps an image
    assert lines[1].endswith("| 2,000 | 3 |  |") and f"| {2 * count} |" in lines[2]
    assert f"| {count * 10 + 2000:,} |" in lines[2] and "; 1 kind(s) of cell" in text
