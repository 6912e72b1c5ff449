"""In a Gaussian world a step of an SDE sampler is ``x' = gain x + spread n``, known on paper.

``x`` counts from the mean there.  Each method appears below as (gain, spread, drift) of each step,
worked out in its authors' coordinates, so that the chain and the moments of its draws are known;
the drift, in units of the mean, is what a method gets wrong even where it starts at the mean.
"""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras, vp_uniform
from scoreag.diffusion.samplers import ancestral, dpmpp_2m, edm_stochastic, euler_maruyama, heun
from worlds import Gaussian, assert_drawn_from

NOISE = Noise(seed=0, image_ids=range(4))
SHAPE = (4, 3, 1000)  # 4,000 draws of each of the three kinds of coordinate


def of_ancestral(var, sigma, end, steps):
    """q(x_{t-1} | x_t, x0) of Ho et al. (2020), eq. 7, with alpha_bar = 1 / (1 + sigma^2)."""
    bar, bar_end = 1 / (1 + sigma**2), 1 / (1 + end**2)
    alpha, beta = bar / bar_end, 1 - bar / bar_end
    estimate = var / (var + sigma**2) * bar**-0.5  # E[x0 | x_t] / x_t
    gain = (bar_end**0.5 * beta * estimate + alpha**0.5 * (1 - bar_end)) / (1 - bar)
    spread = ((1 - bar_end) / (1 - bar) * beta) ** 0.5
    return gain * (bar / bar_end) ** 0.5, spread / bar_end**0.5, 0.0


def of_churn(var, sigma, end, steps):
    """Heun's gain from the raised level, where the slope is sigma / (var + sigma^2) x."""
    gamma = min(40 / steps, 2**0.5 - 1) if 0.05 <= sigma <= 50 else 0.0
    raised = sigma * (1 + gamma)
    first = raised / (var + raised**2)
    euler = 1 + (end - raised) * first
    second = end / (var + end**2) * euler if end > 0 else first
    gain = 1 + (end - raised) * (first + second) / 2
    return gain, gain * 1.003 * (raised**2 - sigma**2) ** 0.5, 0.0


def of_euler_maruyama(var, sigma, end, steps):
    """In VP time, with a(t) = exp(-(0.1 t + 9.95 t^2) / 2) and score -x / (a^2 var + 1 - a^2)."""

    def time(level):
        return (math.sqrt(0.01 + 39.8 * math.log(1 + level**2)) - 0.1) / 19.9

    def a(t):
        return math.exp(-(0.1 * t + 9.95 * t**2) / 2)

    t, t_end = time(sigma), time(end)
    beta, dt = 0.1 + 19.9 * t, t - t_end
    gain = 1 + beta * dt * (0.5 - 1 / (a(t) ** 2 * var + 1 - a(t) ** 2))
    spread = math.sqrt(beta * dt) if end > 0 else 0.0
    drift = (1 + beta * dt / 2) * a(t) / a(t_end) - 1  # what does not cancel of x/2 beta dt
    return gain * a(t) / a(t_end), spread / a(t_end), drift


METHODS = {
    "ancestral": (ancestral.sample, of_ancestral, karras(20, sigma_max=40.0)),
    "churn": (edm_stochastic.sample, of_churn, karras(20, sigma_max=40.0)),
    "churn, many steps": (edm_stochastic.sample, of_churn, karras(110, sigma_max=80.0)),
    "euler_maruyama": (euler_maruyama.sample, of_euler_maruyama, vp_uniform(60)),
}
CASES = pytest.mark.parametrize("sample, of, sigmas", METHODS.values(), ids=METHODS)


def recursion(world, of, sigmas):
    levels = sigmas.tolist()
    return [of(world.var, s, end, len(levels) - 1) for s, end in pairwise(levels)]


def moments(world, of, sigmas):
    """Of the last state, when the first is N(0, sigma_0^2)."""
    centred, var = -world.mean, sigmas[0] ** 2 * torch.ones_like(world.var)
    for gain, spread, drift in recursion(world, of, sigmas):
        centred, var = gain * centred + drift * world.mean, gain**2 * var + spread**2
    return world.mean + centred, var


@CASES
def test_the_chain_is_the_analytic_one(sample, of, sigmas, world):
    """Far from the world's scale, so that also its mean is put to the test."""
    centred = 30 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 2))
    x0 = sample(world.denoise, world.mean + centred, sigmas, NOISE)
    for i, (gain, spread, drift) in enumerate(recursion(world, of, sigmas)):
        n = NOISE.fold_in("step", i).normal_like(centred)
        centred = gain * centred + spread * n + drift * world.mean
    assert torch.allclose(x0, world.mean + centred, rtol=1e-9, atol=1e-9)


@CASES
def test_the_moments_of_the_samples_follow_their_recursion(sample, of, sigmas, world):
    mean, var = moments(world, of, sigmas)
    x = sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(SHAPE))
    assert_drawn_from(Gaussian(mean, var), sample(world.denoise, x, sigmas, NOISE))


def of_dpmpp(var, sigmas, i):
    """Lu et al. (2022), SDE-DPM-Solver++(2M): (x, D before) -> (x', D), a matrix and a spread."""
    sigma, end = sigmas[i], sigmas[i + 1]
    share = var / (var + sigma**2)  # D / x
    if end == 0:
        return torch.stack([torch.stack([share, 0 * share]), torch.stack([share, 0 * share])]), 0.0
    h = math.log(sigma / end)
    half = h / math.log(sigmas[i - 1] / sigma) / 2 if i else 0.0
    keep, pull = math.exp(-2 * h), 1 - math.exp(-2 * h)
    rows = [[keep + pull * (1 + half) * share, -pull * half * torch.ones_like(var)]]
    rows += [[share, torch.zeros_like(var)]]
    return torch.stack([torch.stack(row) for row in rows]), end * math.sqrt(pull)


def test_the_sde_form_of_dpmpp_is_the_analytic_chain(world):
    sigmas = karras(12, sigma_max=40.0)
    centred = 30 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 2))
    x0 = dpmpp_2m.sample(world.denoise, world.mean + centred, sigmas, NOISE, sde=True)
    pair = torch.stack([centred, torch.zeros_like(centred)])
    for i in range(12):
        matrix, spread = of_dpmpp(world.var, sigmas.tolist(), i)
        pair = (matrix[:, :, None] * pair).sum(1)  # pair: (2, batch, 3, 2), matrix: (2, 2, 3, 1)
        pair[0] += spread * NOISE.fold_in("step", i).normal_like(centred)
    assert torch.allclose(x0, world.mean + pair[0], rtol=1e-9, atol=1e-9)


def test_the_sde_form_of_dpmpp_has_the_variance_of_its_recursion(world):
    sigmas = karras(12, sigma_max=40.0)
    cov = torch.zeros(3, 2, 2)
    cov[:, 0, 0] = sigmas[0] ** 2
    for i in range(12):
        matrix, spread = of_dpmpp(world.var, sigmas.tolist(), i)
        matrix = matrix.squeeze(-1).movedim(-1, 0)
        cov = matrix @ cov @ matrix.mT
        cov[:, 0, 0] += spread**2
    x = world.mean + sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(SHAPE))
    x0 = dpmpp_2m.sample(world.denoise, x, sigmas, NOISE, sde=True)
    assert_drawn_from(replace(world, var=cov[:, 0, :1]), x0)


def sde_dpmpp(*chain):
    return dpmpp_2m.sample(*chain, sde=True)


@pytest.mark.parametrize(
    "sample, sigmas",
    [(sde_dpmpp, karras(60, sigma_max=40.0)), (edm_stochastic.sample, karras(60, sigma_max=40.0))],
    ids=["dpmpp", "churn"],
)
def test_with_many_steps_the_samples_have_the_moments_of_the_data(sample, sigmas, world):
    x = world.mean + sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(SHAPE))
    assert_drawn_from(world, sample(world.denoise, x, sigmas, NOISE))


def test_the_recursion_of_euler_maruyama_tends_to_the_data(world):
    """Its variance is that of the data up to a term of order dt: halving dt halves it."""

    def bias(steps):
        _, var = moments(world, of_euler_maruyama, vp_uniform(steps, t_min=1e-5))
        return var - world.var

    assert torch.allclose(bias(4000) / bias(2000), torch.tensor(0.5), atol=0.05)


def test_churn_without_noise_is_heun(world):
    x = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 2))
    chain = world.denoise, x, karras(8, sigma_max=10.0), NOISE
    assert torch.equal(edm_stochastic.sample(*chain, s_churn=0), heun.sample(*chain))
    assert torch.equal(edm_stochastic.sample(*chain, s_tmin=20, s_tmax=30), heun.sample(*chain))
