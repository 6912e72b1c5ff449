"""Noise schedules, against numbers worked out by hand."""

import math

import pytest
import torch

from scoreag.diffusion.noise_schedules import karras, vp_beta, vp_sigma, vp_time, vp_uniform


def test_karras_levels_by_hand():
    """rho = 2 from 9 to 1: the roots 3, 2, 1 are equally spaced."""
    assert karras(3, sigma_min=1.0, sigma_max=9.0, rho=2.0).tolist() == pytest.approx([9, 4, 1, 0])


def test_vp_levels_by_hand():
    """ln(1 + sigma^2) is 10.05 at t = 1, the integral of beta; and t = 1/2 has 0.05 + 19.9 / 8."""
    levels = vp_uniform(3, t_min=0.5)
    middle = 0.1 * 0.75 + 19.9 * 0.75**2 / 2
    expected = [math.sqrt(math.exp(e) - 1) for e in (10.05, middle, 0.05 + 19.9 / 8)]
    assert levels.tolist() == pytest.approx([*expected, 0])


def test_vp_levels_start_at_sigma_max_and_end_near_0():
    levels = vp_uniform(100, sigma_max=2.0)
    assert levels[0].item() == pytest.approx(2.0)
    assert levels[-2].item() == pytest.approx(math.sqrt(0.1e-3 + 19.9e-6 / 2), rel=1e-4)
    assert len(levels) == 101 and levels[-1] == 0 and (levels.diff() < 0).all()


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 1.0, 80.0])
def test_vp_time_is_the_root_of_its_quadratic(sigma):
    """0.1 t + 19.9 t^2 / 2 = ln(1 + sigma^2), and beta = 0.1 + 19.9 t."""
    sigma = torch.tensor(sigma, dtype=torch.float64)
    t = vp_time(sigma).item()
    assert 0.1 * t + 19.9 * t**2 / 2 == pytest.approx(math.log1p(sigma.item() ** 2), rel=1e-12)
    assert vp_beta(sigma).item() == pytest.approx(0.1 + 19.9 * t, rel=1e-12)
    assert vp_sigma(vp_time(sigma)).item() == pytest.approx(sigma.item(), rel=1e-9)


def test_vp_time_is_exact_in_single_precision_too():
    """t = sigma^2 / 0.1 for small sigma, where the textbook form loses all its digits."""
    assert vp_time(torch.tensor(1e-5)).item() == pytest.approx(1e-9, rel=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: karras(0), "steps is 0; write at least 1"),
        (lambda: karras(4, sigma_max=0.001), "first noise level is 0.001 and the last .* 0.002"),
        (lambda: karras(4, sigma_max=math.inf), "finite"),
        (lambda: karras(4, rho=0.0), "rho is 0.0; write a positive number"),
        (lambda: vp_uniform(4, sigma_max=0.005), "first noise level is 0.005"),
    ],
)
def test_an_impossible_schedule_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
