"""What is put into the package is what was trained."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

import tiny
from scoreag.models.model_cards import load_card, read_stored_weights


@pytest.fixture
def bundling(monkeypatch, tmp_path):
    """The command, with a zoo of its own."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = import_module("bundle")
    (tmp_path / "zoo").mkdir()
    for place in (module, import_module("scoreag.models.model_cards")):
        monkeypatch.setattr(place, "ZOO", tmp_path / "zoo")
    return module


def test_a_bundled_model_has_the_weights_and_the_figures_of_the_trained_one(bundling, tmp_path):
    figures = {"evaluation": {"judge_accuracy": {"value": 0.5, "count": 1, "total": 2, "of": "x"}}}
    tiny.write_score_model(tmp_path / "trained", metrics=figures)
    bundling.bundle(str(tmp_path / "trained"), "mine")
    found, given = load_card("mine"), load_card(tmp_path / "trained")
    assert (found.name, found.file, found.metrics) == ("mine", "mine.safetensors", figures)
    assert found.sha256 == given.sha256  # the same numbers in the same order: the same file
    for name, tensor in read_stored_weights(given).items():
        assert (
            torch.equal(read_stored_weights(found)[name], tensor)
            and read_stored_weights(found)[name].dtype == tensor.dtype
        )


def test_a_large_one_comes_in_shards(bundling, tmp_path, monkeypatch):
    monkeypatch.setattr(bundling, "MOST", 40_000)
    tiny.write_score_model(tmp_path / "trained")
    made = bundling.bundle(str(tmp_path / "trained"), "mine")
    assert len(made.weight_files) > 1
    assert all((tmp_path / "zoo" / name).is_file() for name in made.weight_files)
    assert set(read_stored_weights(load_card("mine"))) == set(
        read_stored_weights(load_card(tmp_path / "trained"))
    )
