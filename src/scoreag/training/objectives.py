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

from scoreag.core import families
from scoreag.core.denoiser import Family
from scoreag.core.noise import Stream
from scoreag.core.schedule import vp_sigma
from scoreag.core.types import PerImage
from scoreag.load import UnknownName, hint

Draw: TypeAlias = Callable[[int, Stream], PerImage]
NOISE = (-1.2, 1.2)  # mean and deviation of ln sigma, for pixels; Karras et al. (2022)


@dataclass(frozen=True)
class Objective:
    """What a network is trained on: a family, noise levels, and the weight of an error.

    Args:
        family: how a denoiser is made of the network.
        levels: draws a noise level for each of so many images.
        weight: of the squared error at a noise level.
    """

    family: Family
    levels: Draw
    weight: Callable[[PerImage], PerImage]


def edm(sigma_data: float = 0.5, noise: tuple[float, float] = NOISE) -> Objective:
    """``ln sigma ~ N(mean, deviation^2)``, ``w = (sigma^2 + sd^2) / (sigma sd)^2``.

    Karras et al. (2022), table 1: every noise level counts alike at the start.

    Args:
        noise: mean and deviation of ln sigma.
    """

    def weight(sigma: PerImage) -> PerImage:
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return Objective(families.edm(sigma_data), log_normal(*noise), weight)


def ddpm(sigma_data: float = 0.5) -> Objective:
    """A step of 1000, all alike likely, and ``|n - F|^2``; Ho et al. (2020), eq. 14."""
    return _steps(families.linear_alphas())


def ddpm_cosine(sigma_data: float = 0.5) -> Objective:
    """As ``ddpm``, at the levels of Nichol and Dhariwal (2021), eq. 17."""
    return _steps(families.cosine_alphas())


def vp(sigma_data: float = 0.5, end: float = 1e-5) -> Objective:
    """A time uniform in [end, 1], and ``|n - F|^2``; Song et al. (2021), appendix C."""

    def levels(count: int, source: Stream) -> PerImage:
        times = end + (1 - end) * source.uniform((count,)).double()
        return vp_sigma(times).float()

    return Objective(families.vp(), levels, of_noise)


def ncsn(sigma_data: float = 0.5) -> Objective:
    """A level of a geometric sequence, all alike likely, and ``|sigma s + n|^2``, ``s`` the score.

    Song and Ermon (2019), eq. 5 and 6 with ``lambda = sigma^2``; the network says ``sigma s``.
    """
    return Objective(families.ncsn(), one_of(families.geometric_levels()), of_noise)


def _steps(alphas_cumprod: Float[Tensor, " steps"]) -> Objective:
    levels = one_of(families.levels_of(alphas_cumprod))
    return Objective(families.ddpm(alphas_cumprod), levels, of_noise)


def log_normal(mean: float, deviation: float) -> Draw:
    """``ln sigma ~ N(mean, deviation^2)``."""
    return lambda count, source: (deviation * source.normal((count,)) + mean).exp()


def one_of(levels: Float[Tensor, " levels"]) -> Draw:
    """Any of ``levels``, with equal probability."""
    return lambda count, source: levels[source.integers(len(levels), (count,))].to(torch.float32)


def of_noise(sigma: PerImage) -> PerImage:
    """``1 / sigma^2``: an error of the denoiser as one of the noise."""
    return 1 / sigma**2


FAMILIES: dict[str, Callable[[float], Objective]] = {
    "edm": edm, "ddpm": ddpm, "ddpm_cosine": ddpm_cosine, "vp": vp, "ncsn": ncsn
}  # fmt: skip


def objective(family: str, sigma_data: float, noise: tuple[float, float] = NOISE) -> Objective:
    """The objective of a family, by name; only EDM's depends on ``sigma_data`` and ``noise``."""
    if family not in FAMILIES:
        raise UnknownName(f"no family {family!r}; {hint(family, list(FAMILIES))}")
    return edm(sigma_data, noise) if family == "edm" else FAMILIES[family](sigma_data)
