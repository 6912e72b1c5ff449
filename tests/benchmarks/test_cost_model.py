"""Images a dollar follow from operations, peak, price and utilization."""

import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("cost_model")


def test_images_a_dollar_by_hand(module):
    """2 GFLOP a call; 10 calls of which 5 have a gradient: 40 GFLOP.  10 TFLOP/s at a half: 8 ms.

    An hour has 450,000 of these, and costs two dollars.
    """
    gpu = module.Gpu("one", 10.0, 2.0)
    assert module.images_a_dollar(gpu, 2.0, 10, 5, 0.5) == pytest.approx(225_000)


def test_a_gpu_is_given_in_words(module):
    assert module.parse_gpu("A100 80 GB=156,3.5") == module.Gpu("A100 80 GB", 156.0, 3.5)


def test_the_recorded_table_is_that_of_its_assumptions(module):
    data = json.loads((ROOT / "benchmarks/results/cost_model.json").read_text())
    gpus = tuple(module.Gpu(**gpu) for gpu in data["gpus"])
    assert module.rows(gpus, data["utilization"]) == data["rows"]
    assert "list price assumption" in data["source"] and data["date"]


def test_a_forecast_is_the_pace_of_the_first_rows(module):
    """The first tenth at 2 s, the second at 3 s: eight more tenths take 8 s more."""
    forecast = import_module("million").forecast
    samples = [
        {"rows_bytes": size, "seconds": seconds}
        for size, seconds in ((0, 1.0), (10, 2.0), (20, 3.0), (100, 99.0))
    ]
    told = forecast(1000, 0.2, samples)
    assert told["seconds"] == pytest.approx(11.0) and told["from_rows"] == 200
