"""A solver of the probability-flow ODE converges to the exact flow, at its own order."""

import math

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import dpmpp_2m, edm_stochastic, euler, heun
from worlds import assert_drawn_from

NOISE = Noise(seed=0, image_ids=range(4))


def calm(*chain):
    """Churn without noise."""
    return edm_stochastic.sample(*chain, s_churn=0)


ODE = {"euler": (euler.sample, 1), "heun": (heun.sample, 2), "dpmpp": (dpmpp_2m.sample, 2)}
SOLVERS = pytest.mark.parametrize("sample, order", [*ODE.values(), (calm, 2)], ids=[*ODE, "churn"])


def error(sample, world, steps):
    sigmas = karras(steps, sigma_min=0.01, sigma_max=10.0)[:-1]  # to 0.01: the last, Euler, step
    x = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 10))  # to 0 is tested elsewhere
    exact = world.flow(x, sigmas[0], sigmas[-1])
    return (sample(world.denoise, x, sigmas, NOISE) - exact).abs().max().item()


@SOLVERS
def test_error_falls_at_the_order_of_the_method(sample, order, world):
    coarse, fine = error(sample, world, 128), error(sample, world, 256)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@SOLVERS
def test_samples_have_the_moments_of_the_data(sample, order, world):
    sigmas = karras(100, sigma_max=40.0)
    x = sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 1000))
    assert_drawn_from(world, sample(world.denoise, x, sigmas, NOISE))


def test_dpmpp_by_hand():
    """Levels 4, 2, 1, 0.5 and D(x) = x / 2: the middle step extrapolates half a step ahead.

    From x = 16: D = 8, x = 8 + (16 - 8) / 2 = 12; D = 6 and 6 + (6 - 8) / 2 = 5, so
    x = 5 + (12 - 5) / 2 = 8.5; D = 4.25 and 4.25 + (4.25 - 6) / 2 = 3.375, so x = 5.9375.
    """
    sigmas, noise = torch.tensor([4.0, 2.0, 1.0, 0.5]), Noise(0, [0])
    x = dpmpp_2m.sample(lambda x, sigma: x / 2, torch.tensor([[16.0]]), sigmas, noise)
    assert x.item() == pytest.approx(5.9375)


def test_dpmpp_weights_the_last_estimate_by_the_ratio_of_the_steps():
    """Levels 4, 2, 0.5: h is ln 2 and then 2 ln 2, so the extrapolation is by a whole D - D'.

    From x = 16 to 12 as above; 6 + (6 - 8) = 4, and x = 4 + (12 - 4) / 4 = 6.
    """
    sigmas, noise = torch.tensor([4.0, 2.0, 0.5]), Noise(0, [0])
    x = dpmpp_2m.sample(lambda x, sigma: x / 2, torch.tensor([[16.0]]), sigmas, noise)
    assert x.item() == pytest.approx(6)
