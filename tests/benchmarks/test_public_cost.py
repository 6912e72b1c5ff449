"""What public models cost: the architectures are those whose sizes are published."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from scoreag.models.convert.hub import list_checkpoints

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "benchmarks" / "results" / "public_cost.json").read_text())["rows"]


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("public_cost")


def test_each_public_model_has_a_row():
    assert ROWS.keys() == list_checkpoints().keys()


@pytest.mark.parametrize("name", list_checkpoints())
def test_megabytes_are_those_of_the_parameters(name):
    """Four bytes each; score-SDE's own files have four such copies."""
    size = 16 if list_checkpoints()[name].manual else 4
    assert list_checkpoints()[name].megabytes == pytest.approx(
        ROWS[name]["parameters"] * size / 1e6, abs=1.1
    )


def test_a_convolution_costs_two_operations_for_each_product(module, monkeypatch):
    """By hand, of 8 x 8 pixels: 3 to 4 channels by 3 x 3 is 2 * 64 * 108 operations."""
    layer = module.nn.Conv2d(3, 4, 3, padding=1)
    monkeypatch.setattr(module, "built", lambda made, device: alone(module, layer, device))
    found = module.cost(("", {"image_shape": [3, 8, 8]}), batch=2)
    assert found["gflops"] == pytest.approx(2 * 64 * 108 / 1e9)
    assert found["parameters"] == 112 and found["seconds"] > 0


def alone(module, layer, device):
    class Alone(module.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = (
                layer.to(device)
                if device != "meta"
                else module.nn.Conv2d(3, 4, 3, padding=1, device="meta")
            )

        def forward(self, x, time):
            return self.layer(x)

    return Alone()
