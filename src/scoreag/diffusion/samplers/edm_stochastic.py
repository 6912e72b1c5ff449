"""Churn: a Heun step from a raised noise level.  Karras et al. (2022), algorithm 2.

The fresh noise corrects errors of earlier steps; two denoiser calls a step.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.samplers import heun
from scoreag.diffusion.solver import integrate
from scoreag.diffusion.steering import diffuse, drift

Number: TypeAlias = float | int


def step(
    denoise: Denoise,
    x: State,
    sigma: Sigma,
    next_sigma: Sigma,
    noise: Noise,
    *,
    gamma: Number,
    s_noise: Number,
    s_tmin: Number = 0.0,
    s_tmax: Number = math.inf,
) -> State:
    """If sigma is in [s_tmin, s_tmax], add noise up to ``(1 + gamma) sigma``; then Heun's step."""
    raised = (1 + gamma) * sigma if s_tmin <= sigma <= s_tmax else sigma
    spread = s_noise * (raised**2 - sigma**2).sqrt()
    x = diffuse(denoise, x, spread) + spread * noise.normal_like(x)
    return drift(denoise, partial(heun.move, sigma=raised, next_sigma=next_sigma), x)


def draw_levels(
    sigmas: Sequence[float],
    s_churn: Number = 40.0,
    s_tmin: Number = 0.05,
    s_tmax: Number = 50.0,
    s_noise: Number = 1.003,
) -> list[float]:
    """The noise levels to which noise is added after the first step, in order."""
    _check_options(s_churn, s_tmin, s_tmax, s_noise)
    return [level for level in sigmas[1:-1] if s_churn > 0 and s_tmin <= level <= s_tmax]


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    s_churn: Number = 40.0,
    s_tmin: Number = 0.05,
    s_tmax: Number = 50.0,
    s_noise: Number = 1.003,
) -> State:
    """The whole chain, with ``gamma = min(s_churn / steps, sqrt 2 - 1)``.

    Args:
        s_churn: S_churn of the paper; 0 leaves Heun's method.
        s_tmin, s_tmax: S_min and S_max, the noise levels between which noise is added.
        s_noise: S_noise, which compensates for detail that the denoiser removes; 1 is neutral.
    """
    _check_options(s_churn, s_tmin, s_tmax, s_noise)
    gamma = min(s_churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    churned = partial(step, gamma=gamma, s_noise=s_noise, s_tmin=s_tmin, s_tmax=s_tmax)
    return integrate(churned, denoise, x, sigmas, noise, wrt)


def _check_options(s_churn: object, s_tmin: object, s_tmax: object, s_noise: object) -> None:
    _check_range("s_churn", s_churn, 0.0, math.inf)
    for name, value in (("s_tmin", s_tmin), ("s_tmax", s_tmax)):
        _check_range(name, value, 0.0, math.inf)
    _check_range("s_tmin", s_tmin, 0.0, s_tmax)
    _check_range("s_noise", s_noise, 0.5, 2.0)


def _check_range(name: str, value: object, low: Number, high: object) -> None:
    number = isinstance(value, float | int) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(
            f"edm_stochastic's {name} is {value!r}; write a number from {low} to {high}"
        )
