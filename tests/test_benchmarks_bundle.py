"""What is put into the package is what was trained."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

import tiny
from scoreag.cards import card, stored


@pytest.fixture
def bundling(monkeypatch, tmp_path):
    """The command, with a zoo of its own."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    module = import_module("bundle")
    (tmp_path / "zoo").mkdir()
    for place in (module, import_module("scoreag.cards")):
        monkeypatch.setattr(place, "ZOO", tmp_path / "zoo")
    return module


def test_a_bundled_model_has_the_weights_and_the_figures_of_the_trained_one(bundling, tmp_path):
    figures = {"evaluation": {"judge_accuracy": {"value": 0.5, "count": 1, "total": 2, "of": "x"}}}
    tiny.write_score_model(tmp_path / "trained", figures=figures)
    bundling.bundle(str(tmp_path / "trained"), "mine")
    found, given = card("mine"), card(tmp_path / "trained")
    assert (found.name, found.file, found.figures) == ("mine", "mine.safetensors", figures)
    assert found.sha256 == given.sha256  # the same numbers in the same order: the same file
    for name, tensor in stored(given).items():
        assert (
            torch.equal(stored(found)[name], tensor) and stored(found)[name].dtype == tensor.dtype
        )


def test_a_large_one_comes_in_shards(bundling, tmp_path, monkeypatch):
    monkeypatch.setattr(bundling, "MOST", 40_000)
    tiny.write_score_model(tmp_path / "trained")
    made = bundling.bundle(str(tmp_path / "trained"), "mine")
    assert len(made.shards) > 1
    assert all((tmp_path / "zoo" / name).is_file() for name in made.shards)
    assert set(stored(card("mine"))) == set(stored(card(tmp_path / "trained")))
