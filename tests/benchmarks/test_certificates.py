"""What the results page says of certificates is what the run's rows say."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.cli.app import main

WORDS = ["certify", "--model", "fashion-small", "--classifier", "fashion-cnn", "--quiet",
         "--data", "fashion-mnist:sample[0:2]", "--n", "40", "--n0", "5"]  # fmt: skip


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    for noise in ("0.25", "1.0"):
        assert main([*WORDS, "--sigma", noise, "--out", str(tmp_path / noise)]) == 0
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


def test_a_line_a_generator_with_the_counts_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    words = ["certify", "--generative", *WORDS[1:6], "--per-class", "2", "--steps", "2"]
    for name, more in (("bare", []), ("behind", ["--attack-scale", "3", "--purifier", "gap"])):
        assert main([*words, *more, "--out", str(tmp_path / name)]) == 0
    rows = [import_module("promised").promised(tmp_path / name) for name in ("bare", "behind")]
    text = import_module("render_certified").promised(json.loads(json.dumps({"rows": rows})))
    assert "2 of each class" in text and "probability 0.999 all" in text
    bare, behind = (line for line in text.splitlines() if line.startswith(("| 0 |", "| 3 |")))
    assert "| none |" in bare and "| gap |" in behind
    for name, line in (("bare", bare), ("behind", behind)):
        read = [
            json.loads(row) for row in (tmp_path / name / "rows.jsonl").read_text().splitlines()
        ]
        assert f"({sum(row['predicted'] != row['label'] for row in read)} of 20;" in line
        assert float(line.split("|")[-2].split()[0]) > 98  # two draws promise next to nothing


def test_a_line_a_steered_generator_with_the_counts_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    words = ["certify", "--generative", *WORDS[1:6], "--classes", "0,5", "--per-class", "3",
             "--steps", "3", "--energy", "0.5,9", "--attack-per-class", "2",
             "--reference-classifier", "fashion-judge", "--out", str(tmp_path / "run")]  # fmt: skip
    assert main(words) == 0
    found = json.loads(json.dumps({"rows": [import_module("steered").steered(tmp_path / "run")]}))
    text = import_module("render_certified").steered(found)
    read = [json.loads(row) for row in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    first, second = (line for line in text.splitlines() if line.startswith("| fashion-small"))
    for line, counts in (
        (first, [row["predicted"] != row["label"] for row in read]),
        (second, [row["predicted"] != row["label"] and row["shown"] for row in read]),
    ):
        cells = [cell.strip() for cell in line.split("|")][4:7]
        for cell, budget in zip(cells, (None, 0.5, 9.0), strict=True):
            of = [hit for hit, row in zip(counts, read, strict=True) if row["budget"] == budget]
            assert f"({sum(of)}/{len(of)})" in cell


def test_a_line_a_classifier_with_the_counts_of_all_its_rows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    bare = ["certify", "--classifier", "fashion-cnn", "--quiet", "--n", "200", "--n0", "5",
            "--data", "fashion-mnist:sample[0:3]"]  # fmt: skip
    runs = {
        "l2": ["--model", "fashion-small"],
        "blur": ["--transform", "blur"],
        "brightness": ["--transform", "brightness-contrast"],
    }
    for name, words in runs.items():
        assert main([*bare, *words, "--out", str(tmp_path / name)]) == 0
    collect = import_module("certificates").collect
    rows = json.loads(json.dumps({"rows": collect([tmp_path / name for name in runs])}))
    text = import_module("render_certified").certificates(rows)
    (line,) = (line for line in text.splitlines() if line.startswith("| fashion-cnn |"))
    cells = [cell.strip() for cell in line.split("|")][2:-1]
    for cell, (name, quantity, least) in zip(
        (cells[0], cells[2], cells[6], cells[7]),
        (("l2", "radius", 0.25), ("blur", "radius", 1.0), ("brightness", "brightness", 0.1),
         ("brightness", "contrast", 1.2)),
        strict=True,
    ):  # fmt: skip
        read = (tmp_path / name / "rows.jsonl").read_text().splitlines()
        hits = sum(row["correct"] and row[quantity] >= least for row in map(json.loads, read))
        assert cell.endswith(f"({hits}/3)"), (name, quantity)
    assert cells[4] == "" and cells[-1] == ""  # no run over translations, no generator
    with pytest.raises(ValueError, match="second folder of blur"):
        collect([tmp_path / "blur", tmp_path / "blur"])


def test_kept_certificates_stay_and_new_ones_take_their_place(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    old = {
        "about": {"command": "one"},
        "earlier": ["none"],
        "rows": [{"classifier": "a", "l2": 1, "blur": 2}, {"classifier": "b", "l2": 3}],
    }
    rows = [{"classifier": "a", "blur": 4}, {"classifier": "c", "l2": 5}]
    assert import_module("certificates").merge(old, rows) == {
        "earlier": ["none", "one"],
        "rows": [{"classifier": "a", "l2": 1, "blur": 4}, {"classifier": "b", "l2": 3},
                 {"classifier": "c", "l2": 5}],
    }  # fmt: skip
