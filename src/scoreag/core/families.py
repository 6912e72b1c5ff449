"""How each family of score models reads a noise level; tables 1 of Karras et al. (2022)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.denoiser import Coefficients, Family
from scoreag.core.types import Levels


def edm(sigma_data: float = 0.5) -> Family:
    """EDM: input and target of the network have unit variance at every noise level."""

    def coefficients(sigma: Levels) -> Coefficients:
        total = sigma**2 + sigma_data**2
        return Coefficients(
            skip=sigma_data**2 / total,
            out=sigma * sigma_data / total.sqrt(),
            inner=1 / total.sqrt(),
            time=sigma.log() / 4,
        )

    return coefficients


def ddpm(alphas_cumprod: Float[Tensor, " steps"]) -> Family:
    """DDPM: the network predicts the noise at step t, where sigma_t^2 = 1 / alpha_bar_t - 1.

    Between two steps, t is interpolated linearly in log sigma.
    """
    log_levels = (1 / alphas_cumprod.double() - 1).log() / 2

    def coefficients(sigma: Levels) -> Coefficients:
        log_sigma = sigma.double().log().clamp(log_levels[0], log_levels[-1])
        high = torch.searchsorted(log_levels, log_sigma).clamp(min=1)
        low = high - 1
        weight = (log_sigma - log_levels[low]) / (log_levels[high] - log_levels[low])
        return Coefficients(
            skip=torch.ones_like(sigma),
            out=-sigma,
            inner=1 / (1 + sigma**2).sqrt(),
            time=(low + weight).to(sigma),
        )

    return coefficients


def ncsn() -> Family:
    """NCSN++: the network predicts minus the noise, and is told log(sigma / 2)."""

    def coefficients(sigma: Levels) -> Coefficients:
        one = torch.ones_like(sigma)
        return Coefficients(skip=one, out=sigma, inner=one, time=sigma.log() - math.log(2))

    return coefficients
