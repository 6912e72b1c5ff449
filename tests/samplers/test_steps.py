"""Single steps by hand, the last step, and impossible options."""

import math

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import vp_sigma
from scoreag.diffusion.samplers import (
    ancestral,
    dpmpp_2m,
    edm_stochastic,
    euler,
    euler_maruyama,
    heun,
)

pytestmark = pytest.mark.usefixtures("in_double_precision")
NOISE = Noise(seed=0, image_ids=[0])
FOUR, TWO, ZERO = (torch.tensor(s, dtype=torch.float64) for s in (4.0, 2.0, 0.0))


def half(x, sigma):
    return x / 2


def number(x):
    return torch.tensor([[x]])


def one_step(sampler, x, sigmas, denoise=half, **options):
    return sampler.sample(denoise, number(x), torch.tensor(sigmas), NOISE, **options).item()


def drawn(index=0):
    return NOISE.fold_in("step", index).normal_like(number(0.0)).item()


def test_euler_by_hand():
    """From 16 at level 4 to level 2, D = 8: half way, 12."""
    assert one_step(euler, 16.0, [4.0, 2.0]) == pytest.approx(12)


def test_heun_by_hand():
    """Slopes (16 - 8) / 4 = 2 at 4, and at 12 (12 - 6) / 2 = 3: 16 - 2 * 2.5 = 11."""
    assert one_step(heun, 16.0, [4.0, 2.0]) == pytest.approx(11)


def test_ancestral_by_hand():
    """A quarter of the way stays: 8 + (16 - 8) / 4 = 10, and the spread is 2 sqrt(3/4)."""
    assert one_step(ancestral, 16.0, [4.0, 2.0]) == pytest.approx(10 + 3**0.5 * drawn())


def test_churn_by_hand():
    """amount 1 over one step, but at most sqrt 2 - 1: level 4 sqrt 2, n of spread 4 added."""
    x = 16 + 2.0 * 4 * drawn()
    level = 4 * 2**0.5
    euler_step = x + (2 - level) * (x / 2) / level
    expected = x + (2 - level) * (x / 2 / level + euler_step / 2 / 2) / 2
    found = one_step(edm_stochastic, 16.0, [4.0, 2.0], s_churn=1, s_noise=2.0)
    assert found == pytest.approx(expected)


def test_churn_spreads_its_amount_over_the_steps():
    """amount 0.5 over two steps: gamma = 1/4, from 4 to 5 and from 2 to 2.5, and D = 0."""
    x = 16 + 3 * drawn(0)  # 5^2 - 4^2 = 3^2
    x = x * 2 / 5 + 1.5 * drawn(1)  # 2.5^2 - 2^2 = 1.5^2
    found = one_step(
        edm_stochastic, 16.0, [4.0, 2.0, 1.0], lambda x, s: 0 * x, s_churn=0.5, s_noise=1.0
    )
    assert found == pytest.approx(x / 2.5)


@pytest.mark.parametrize("low, high, noisy", [(4, 4, True), (0, 3.9, False), (4.1, 50, False)])
def test_churn_adds_noise_between_its_bounds_only(low, high, noisy):
    calm = one_step(heun, 16.0, [4.0, 2.0])
    assert (one_step(edm_stochastic, 16.0, [4.0, 2.0], s_tmin=low, s_tmax=high) != calm) == noisy


def test_euler_maruyama_by_hand():
    """From t = 1/2 to 1/4 with D = 0: beta 10.05, drift x_vp (1/2 - 1 / (1 - a^2)), dt 1/4."""
    a2, a2_end = math.exp(-(0.05 + 19.9 / 8)), math.exp(-(0.025 + 19.9 / 32))
    sigmas = vp_sigma(torch.tensor([0.5, 0.25])).tolist()
    x_vp = a2**0.5 * 16
    x_vp += 10.05 / 4 * x_vp * (0.5 - 1 / (1 - a2)) + (10.05 / 4) ** 0.5 * drawn()
    found = one_step(euler_maruyama, 16.0, sigmas, lambda x, s: 0 * x)
    assert found == pytest.approx(x_vp / a2_end**0.5)


def test_the_last_step_of_euler_maruyama_tends_to_the_estimate():
    """Without noise, and all but at 0: x + beta t (D - x) / sigma^2, where sigma^2 = 0.1 t."""
    sigma = vp_sigma(torch.tensor(1e-9)).item()
    assert one_step(euler_maruyama, 16.0, [sigma, 0.0]) == pytest.approx(8, abs=1e-5)


@pytest.mark.parametrize("sampler", [euler, heun, edm_stochastic, ancestral, dpmpp_2m])
def test_the_step_to_0_ends_at_the_estimate(sampler):
    assert one_step(sampler, 16.0, [0.03, 0.0]) == pytest.approx(8, abs=1e-12)
    assert one_step(sampler, 16.0, [4.0, 0.03, 0.0], lambda x, s: x * 0 + 7) == pytest.approx(7)


@pytest.mark.parametrize("stochastic", [False, True])
def test_dpmpp_takes_no_extrapolated_estimate_to_0(stochastic):
    """The last estimate is the image: half of a state that has just been 12, or drawn."""
    before = one_step(dpmpp_2m, 16.0, [4.0, 2.0], sde=stochastic)
    found = one_step(dpmpp_2m, 16.0, [4.0, 2.0, 0.0], sde=stochastic)
    assert found == pytest.approx(before / 2)


@pytest.mark.parametrize(
    "sampler, options, message",
    [
        (
            edm_stochastic,
            {"s_churn": -1.0},
            "edm_stochastic's s_churn is -1.0; write a number from 0.0 to inf",
        ),
        (edm_stochastic, {"s_churn": math.nan}, "edm_stochastic's s_churn is nan; write a number"),
        (
            edm_stochastic,
            {"s_tmin": 60.0},
            "edm_stochastic's s_tmin is 60.0; write a number from 0.0 to 50.0",
        ),
        (
            edm_stochastic,
            {"s_tmax": 0.01},
            "edm_stochastic's s_tmin is 0.05; write a number from 0.0 to 0.01",
        ),
        (
            edm_stochastic,
            {"s_noise": 1003.0},
            "edm_stochastic's s_noise is 1003.0; write a number from 0.5 to 2.0",
        ),
    ],
)
def test_an_option_out_of_range_is_refused(sampler, options, message):
    with pytest.raises(ValueError, match=message):
        one_step(sampler, 1.0, [4.0, 0.0], **options)
