"""The benchmark of speed: what it counts, whom it compares, and what its tables say."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("speed")


@pytest.fixture
def render(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("render_speed")


def test_operations_are_counted_through_a_gradient(speed):
    """A convolution of 3 to 5 channels, 3 x 3, on 8 x 8: 2 * 5 * 27 * 64; as many backward."""
    conv = torch.nn.Conv2d(3, 5, 3, padding=1).requires_grad_(False)

    def gradient():
        leaf = torch.ones(1, 3, 8, 8).requires_grad_()
        torch.autograd.grad(conv(leaf).sum(), leaf)

    assert speed.gflops(lambda: conv(torch.ones(1, 3, 8, 8))) == pytest.approx(17280e-9)
    assert speed.gflops(gradient) == pytest.approx(2 * 17280e-9)


def test_sides_take_turns_after_a_round_that_does_not_count(speed):
    order = []
    found = speed.in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}


def test_networks_of_diffusers_are_ours_with_the_same_weights(speed):
    pytest.importorskip("diffusers")
    theirs = speed.unet2d()
    x, time = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.ones(1)
    with torch.no_grad():
        expected = theirs(x, 77 * time).sample
        torch.testing.assert_close(
            speed.same_network(theirs)(x, 77 * time), expected, atol=1e-5, rtol=1e-4
        )


def test_a_table_has_the_median_of_the_ratios_of_rounds(render):
    """Ratios 3, 3 and 1: not the ratio of the medians, 4 / 2."""
    rows = [
        {"side": "ours", "seconds": [1.0, 2.0, 4.0]},
        {"side": "loop of Cohen et al.", "seconds": [3.0, 6.0, 4.0]},
    ]
    table = render.speed({"parts": {"certificates": {"rows": rows}}})
    assert "| ours | loop of Cohen et al. | 3.00 |" in table


def test_gradients_are_compared_by_a_further_step_without_the_start(render):
    """0.1 s a step after a start of 0.5 s, and 0.2 s a step after none."""
    rows = [
        {"side": side, "steps": steps, "seconds": [start + pace * steps]}
        for steps in (5, 25)
        for side, start, pace in (("ours", 0.5, 0.1), ("plain autograd", 0.0, 0.2))
    ]
    table = render.speed({"parts": {"gradient": {"rows": rows}}})
    assert "a further step | ours | plain autograd | 2.00 |" in table
