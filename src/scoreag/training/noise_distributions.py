"""What each family learns: its denoiser, the noise levels it sees, and the weight of each.

A network that predicts the noise with error ``e`` makes a denoiser with error ``sigma e``, so that
every loss is one of denoising, ``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, and the
weight is one over the square of the family's coefficient ``out``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Stream
from scoreag.core.types import BatchScalar
from scoreag.diffusion import parameterizations
from scoreag.diffusion.noise_schedules import vp_sigma
from scoreag.diffusion.parameterizations import Parameterization
from scoreag.registry import UnknownNameError, did_you_mean

SigmaSampler: TypeAlias = Callable[[int, Stream], BatchScalar]
LN_SIGMA = (-1.2, 1.2)  # mean and deviation of ln sigma, for pixels; Karras et al. (2022)


@dataclass(frozen=True)
class DenoisingObjective:
    """What a network is trained on: a family, noise levels, and the weight of an error.

    Args:
        family: how a denoiser is made of the network.
        levels: draws a noise level for each of so many images.
        weight: of the squared error at a noise level.
    """

    family: Parameterization
    sample_sigma: SigmaSampler
    weight: Callable[[BatchScalar], BatchScalar]


def edm(sigma_data: float = 0.5, ln_sigma: tuple[float, float] = LN_SIGMA) -> DenoisingObjective:
    """``ln sigma ~ N(mean, deviation^2)``, ``w = (sigma^2 + sd^2) / (sigma sd)^2``.

    Karras et al. (2022), table 1: every noise level counts alike at the start.

    Args:
        noise: mean and deviation of ln sigma.
    """

    def weight(sigma: BatchScalar) -> BatchScalar:
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return DenoisingObjective(parameterizations.edm(sigma_data), log_normal(*ln_sigma), weight)


def ddpm(sigma_data: float = 0.5) -> DenoisingObjective:
    """A step of 1000, all alike likely, and ``|n - F|^2``; Ho et al. (2020), eq. 14."""
    return _discrete_objective(parameterizations.linear_alphas_cumprod())


def ddpm_cosine(sigma_data: float = 0.5) -> DenoisingObjective:
    """As ``ddpm``, at the levels of Nichol and Dhariwal (2021), eq. 17."""
    return _discrete_objective(parameterizations.cosine_alphas_cumprod())


def vp(sigma_data: float = 0.5, t_min: float = 1e-5) -> DenoisingObjective:
    """A time uniform in [end, 1], and ``|n - F|^2``; Song et al. (2021), appendix C."""

    def levels(count: int, source: Stream) -> BatchScalar:
        times = t_min + (1 - t_min) * source.uniform((count,)).double()
        return vp_sigma(times).float()

    return DenoisingObjective(parameterizations.vp(), levels, noise_prediction_weight)


def ncsn(sigma_data: float = 0.5) -> DenoisingObjective:
    """A level of a geometric sequence, all alike likely, and ``|sigma s + n|^2``, ``s`` the score.

    Song and Ermon (2019), eq. 5 and 6 with ``lambda = sigma^2``; the network says ``sigma s``.
    """
    return DenoisingObjective(
        parameterizations.ncsn(),
        discrete(parameterizations.geometric_sigmas()),
        noise_prediction_weight,
    )


def _discrete_objective(alphas_cumprod: Float[Tensor, " steps"]) -> DenoisingObjective:
    levels = discrete(parameterizations.alphas_cumprod_to_sigmas(alphas_cumprod))
    return DenoisingObjective(
        parameterizations.ddpm(alphas_cumprod), levels, noise_prediction_weight
    )


def log_normal(mean: float, std: float) -> SigmaSampler:
    """``ln sigma ~ N(mean, deviation^2)``."""
    return lambda count, source: (std * source.normal((count,)) + mean).exp()


def discrete(levels: Float[Tensor, " levels"]) -> SigmaSampler:
    """Any of ``levels``, with equal probability."""
    return lambda count, source: levels[source.integers(len(levels), (count,))].to(torch.float32)


def noise_prediction_weight(sigma: BatchScalar) -> BatchScalar:
    """``1 / sigma^2``: an error of the denoiser as one of the noise."""
    return 1 / sigma**2


FAMILIES: dict[str, Callable[[float], DenoisingObjective]] = {
    "edm": edm, "ddpm": ddpm, "ddpm_cosine": ddpm_cosine, "vp": vp, "ncsn": ncsn
}  # fmt: skip


def build_objective(
    family: str, sigma_data: float, ln_sigma: tuple[float, float] = LN_SIGMA
) -> DenoisingObjective:
    """The objective of a family, by name; only EDM's depends on ``sigma_data`` and ``noise``."""
    if family not in FAMILIES:
        raise UnknownNameError(f"no family {family!r}; {did_you_mean(family, list(FAMILIES))}")
    return edm(sigma_data, ln_sigma) if family == "edm" else FAMILIES[family](sigma_data)
