"""What the results page says of certificates is what the run's rows say."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.cli import main

WORDS = ["certify", "--model", "fashion-small", "--classifier", "fashion-cnn", "--quiet",
         "--data", "fashion-mnist:sample[0:2]", "--samples", "40", "--select", "5"]  # fmt: skip


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    for noise in ("0.25", "1.0"):
        assert main([*WORDS, "--noise", noise, "--out", str(tmp_path / noise)]) == 0
    rows = [import_module("certified").certified(tmp_path / noise) for noise in ("0.25", "1.0")]
    return import_module("render_certified").certified(json.loads(json.dumps({"rows": rows})))


def test_a_line_a_noise_level_with_the_counts_of_its_rows(text, tmp_path):
    lines = [line for line in text.splitlines() if line.startswith(("| 0.25 |", "| 1 |"))]
    assert len(lines) == 2
    for noise, line in zip(("0.25", "1.0"), lines, strict=True):
        file = tmp_path / noise / "rows.jsonl"
        rows = [json.loads(one) for one in file.read_text().splitlines()]
        cells = [cell.strip() for cell in line.split("|")]
        assert f"({sum(row['correct'] for row in rows)} of 2" in cells[5]
        far = sum(row["correct"] and row["radius"] >= 0.25 for row in rows)
        assert f"({far} of 2" in cells[7]
    assert "beyond N" in lines[0]  # 40 copies reach 0.25 Phi^-1(0.001^(1/40)) = 0.25
