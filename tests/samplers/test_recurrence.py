"""Ancestral sampling that takes each step several times."""

from itertools import pairwise

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.samplers import ancestral

SIGMAS = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.0], dtype=torch.float64)
COUNT = 4000


def draw(recurrence):
    """From a Gaussian world of one pixel: mean 0.3, variance 0.25."""
    calls = []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return (0.25 * x + sigma**2 * 0.3) / (0.25 + sigma**2)

    noise = Noise(0, range(COUNT))
    x = 10 * noise.fold_in("start").normal_like(torch.zeros(COUNT, 1, 1, 1, dtype=torch.float64))
    return ancestral.sample(denoise, x, SIGMAS, noise, recurrence=recurrence), calls


def test_once_is_the_plain_chain_and_more_costs_one_call_a_repeat():
    assert draw(1)[1] == SIGMAS[:-1].tolist()
    assert draw(3)[1] == [s for s in SIGMAS[:-2].tolist() for _ in range(3)] + [0.2]


@pytest.mark.parametrize("recurrence", [1, 2, 4])
def test_mean_and_variance_are_those_of_the_linear_chain(recurrence):
    """Each step maps ``x`` to ``a x + b + s z``; up adds the difference of the variances."""
    mean, var = 0.0, 100.0
    for sigma, lower in pairwise(SIGMAS.tolist()):
        keep, ratio = 0.25 / (0.25 + sigma**2), (lower / sigma) ** 2
        a, b = keep + ratio * (1 - keep), (1 - ratio) * (1 - keep) * 0.3
        for k in range(recurrence if lower else 1):
            var += (sigma**2 - lower**2) * bool(k)
            mean, var = a * mean + b, a**2 * var + lower**2 * (1 - ratio)
    samples = draw(recurrence)[0].flatten()
    assert samples.mean().item() == pytest.approx(mean, abs=4 * (var / COUNT) ** 0.5)
    assert samples.var().item() == pytest.approx(var, rel=4 * (2 / COUNT) ** 0.5)


@pytest.mark.parametrize("wrong", [0, -2, True])
def test_what_is_no_count_is_refused(wrong):
    with pytest.raises(ValueError, match=r"ancestral's recurrence is .*; write a whole number of"):
        draw(wrong)
