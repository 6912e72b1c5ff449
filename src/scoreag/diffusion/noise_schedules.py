"""Noise schedules: decreasing noise levels, the last of them 0, and the time of VP models.

In variance-preserving (VP) models with ``beta(t) = 0.1 + 19.9 t``, ``ln(1 + sigma^2)`` is the
integral of beta from 0 to t.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

BETA_MIN, BETA_MAX = 0.1, 20.0  # Song et al. (2021), appendix C: t in [0, 1]
BETA_RANGE = BETA_MAX - BETA_MIN


def karras(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float[Tensor, " {steps}+1"]:
    """Karras et al. (2022), eq. 5: dense where the noise is small, and 0 at the end."""
    _check(steps, sigma_min, sigma_max)
    if not rho > 0:
        raise ValueError(f"rho is {rho}; write a positive number, such as 7")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, ramp.new_zeros(1)])


def vp_uniform(
    steps: int, sigma_max: float | None = None, t_min: float = 1e-3
) -> Float[Tensor, " {steps}+1"]:
    """Levels uniform in VP time, from that of ``sigma_max`` to ``t_min``, and 0 at the end.

    Args:
        sigma_max: the first level; by default that of t = 1, which is 152.17.
        t_min: the last time before 0, where the score is undefined.
    """
    start = 1.0 if sigma_max is None else float(vp_time(torch.tensor(sigma_max).double()))
    bounds = vp_sigma(torch.tensor([t_min, start], dtype=torch.float64)).tolist()
    _check(steps, *bounds)
    times = torch.linspace(start, t_min, steps, dtype=torch.float64)
    return torch.cat([vp_sigma(times), times.new_zeros(1)])


def vp_beta(sigma: Tensor) -> Tensor:
    """The rate beta at a noise level: ``beta^2 = 0.1^2 + 2 * 19.9 ln(1 + sigma^2)``."""
    return (BETA_MIN**2 + 2 * BETA_RANGE * torch.log1p(sigma**2)).sqrt()


def vp_time(sigma: Tensor) -> Tensor:
    """t of a noise level, ``(beta - 0.1) / 19.9``, without cancellation near 0."""
    return 2 * torch.log1p(sigma**2) / (vp_beta(sigma) + BETA_MIN)


def vp_sigma(time: Tensor) -> Tensor:
    """The noise level at time t: ``sqrt(exp(0.1 t + 19.9 t^2 / 2) - 1)``."""
    return torch.expm1(BETA_MIN * time + BETA_RANGE * time**2 / 2).sqrt()


def _check(steps: int, sigma_min: float, sigma_max: float) -> None:
    if not steps >= 1:
        raise ValueError(f"steps is {steps}; write at least 1")
    if not 0 < sigma_min <= sigma_max < math.inf:
        raise ValueError(
            f"the first noise level is {sigma_max:.4g} and the last before 0 is {sigma_min:.4g}; "
            "write a first one that is finite and not below the last"
        )
