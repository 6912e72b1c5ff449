"""Churn: a Heun step from a raised noise level.  Karras et al. (2022), algorithm 2.

The fresh noise repairs errors of earlier steps, at the price of two denoiser calls a step.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

from torch import Tensor

from scoreag.core.integrate import integrate
from scoreag.core.noise import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.samplers import heun

Number: TypeAlias = float | int


def step(
    denoise: Denoise,
    x: State,
    sigma: Sigma,
    next_sigma: Sigma,
    noise: Noise,
    *,
    gamma: Number,
    inflate: Number,
    low: Number = 0.0,
    high: Number = math.inf,
) -> State:
    """Add noise up to the level ``(1 + gamma) sigma``, if sigma is in [low, high]; then Heun's."""
    raised = (1 + gamma) * sigma if low <= sigma <= high else sigma
    fresh = inflate * (raised**2 - sigma**2).sqrt() * noise.normal_like(x)
    return heun.step(denoise, x + fresh, raised, next_sigma, noise)


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    amount: Number = 40.0,
    low: Number = 0.05,
    high: Number = 50.0,
    inflate: Number = 1.003,
) -> State:
    """The whole chain, with ``gamma = min(amount / steps, sqrt 2 - 1)``.

    Args:
        amount: S_churn of the paper; 0 leaves Heun's method.
        low, high: S_min and S_max, the noise levels between which noise is added.
        inflate: S_noise, which makes up for what the denoiser removes too much; 1 is neutral.
    """
    _check("amount", amount, 0.0, math.inf)
    _check("low", low, 0.0, high)
    _check("high", high, low, math.inf)
    _check("inflate", inflate, 0.5, 2.0)
    gamma = min(amount / (len(sigmas) - 1), math.sqrt(2) - 1)
    churned = partial(step, gamma=gamma, inflate=inflate, low=low, high=high)
    return integrate(churned, denoise, x, sigmas, noise, wrt)


def _check(name: str, value: object, least: Number, most: object) -> None:
    number = isinstance(value, float | int) and not isinstance(value, bool)
    if not number or not least <= value <= most:  # type: ignore[operator]
        raise ValueError(f"churn's {name} is {value!r}; write a number from {least} to {most}")
