"""The benchmark of white-box attacks on GAP: what is counted, and what its tables say."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

import scoreag
import tiny

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def module(monkeypatch, tmp_path):
    """The benchmark with small models, and results of its own."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(import_module("common"), "RESULTS", tmp_path)
    monkeypatch.setattr(scoreag, "load_prior", lambda name: tiny.prior())
    monkeypatch.setattr(scoreag, "load_classifier", lambda name: tiny.victim())
    given = tiny.images(6) / 255, tiny.labels(6)
    monkeypatch.setattr(scoreag, "load_data", lambda spec, data_dir, classes=(): given)
    return import_module("white_box")


def test_each_axis_has_its_rows_and_every_table_is_rendered(module, tmp_path):
    words = ["--images", "4", "--iterations", "2", "--draws", "2", "--stop", "1", "--answers", "3"]
    module.main([*words, "--steps", "1", "2", "--similarity", "10", "--votes", "1", "3"])
    data = json.loads((tmp_path / "white_box.json").read_text())
    assert [(row["axis"], row["at"]) for row in data["rows"]] == [
        ("votes", 1), ("votes", 3), ("steps", 1), ("steps", 2), ("similarity", 10.0)
    ]  # fmt: skip
    assert [row["resolved"]["steps"] for row in data["rows"]] == [2, 2, 1, 2, 2]
    same, default = (data["rows"][i] for i in (1, 3))  # the default has two steps
    assert {n: same[n] for n in ("clean", "blind", "exact", "survives")} == {
        n: default[n] for n in ("clean", "blind", "exact", "survives")
    }
    text = import_module("render_white_box").white_box(data)
    assert text.count("\n| 1 |") == 2 and "Over similarity s_x" in text


def test_what_survives_is_counted_among_the_images_right_under_the_blind_attack(module):
    """Blind: images 0 and 1 have the vote; exact: 1 and 2. One of two survives."""
    labels = torch.tensor([4, 4, 4])
    blind = torch.tensor([[4, 4, 0, 0], [4, 4, 4, 0], [0, 0, 4, 4]])
    exact = torch.tensor([[0, 0, 4, 4], [4, 0, 4, 4], [4, 4, 4, 0]])
    found = module.told({"clean": blind, "blind": blind, "exact": exact}, labels, 3)
    assert (found["survives"]["count"], found["survives"]["total"]) == (1, 2)
    assert (found["exact"]["count"], found["exact_worst"]["count"]) == (2, 1)


def test_an_image_draws_as_itself_however_images_are_batched(module, monkeypatch):
    defence = [scoreag.defend(tiny.victim(), tiny.prior(), steps=2) for _ in range(2)]
    images, labels = tiny.images(5) / 255, tiny.labels(5)
    attack = module.apgd.APGD(steps=3, eot_samples=2, early_stop_draws=2)
    found = []
    for defended, size in zip(defence, (5, 2), strict=True):
        monkeypatch.setattr(module, "BATCH", size)
        adversarial = module.attacked(defended, images, labels, attack)
        found.append((adversarial, module.answers(defended, adversarial, 3)))
    assert (found[0][0] - found[1][0]).abs().max() <= 1.01 / 255
    assert torch.equal(found[0][1], found[1][1])
