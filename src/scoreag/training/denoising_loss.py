"""What a score model learns: noise levels, the weight of each, and the denoising loss.

A network that predicts the noise with error ``e`` makes a denoiser with error ``sigma e``, so every
loss is one of denoising, ``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, and the weight
is one over the square of the parameterization's coefficient ``c_out``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreag.core.rng import Stream
from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.diffusion import parameterizations
from scoreag.diffusion.noise_schedules import vp_sigma
from scoreag.diffusion.parameterizations import Parameterization
from scoreag.registry import UnknownNameError, did_you_mean
from scoreag.training.batches import random_flip
from scoreag.training.loop import BatchTensors, PerSampleLoss

SigmaSampler: TypeAlias = Callable[[int, Stream], BatchScalar]
LN_SIGMA = (-1.2, 1.2)  # mean and deviation of ln sigma, for pixels; Karras et al. (2022)


@dataclass(frozen=True)
class DenoisingObjective:
    """What a network is trained on.

    Args:
        family: how a denoiser is made of the network.
        sample_sigma: a noise level for each of so many images.
        weight: of the squared error at a noise level.
    """

    family: Parameterization
    sample_sigma: SigmaSampler
    weight: Callable[[BatchScalar], BatchScalar]


def edm(sigma_data: float = 0.5, ln_sigma: tuple[float, float] = LN_SIGMA) -> DenoisingObjective:
    """``ln sigma ~ N(mean, std^2)``, ``w = (sigma^2 + sd^2) / (sigma sd)^2``.

    Karras et al. (2022), table 1: every noise level counts alike at the start.

    Args:
        ln_sigma: mean and standard deviation of ln sigma.
    """

    def weight(sigma: BatchScalar) -> BatchScalar:
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    return DenoisingObjective(parameterizations.edm(sigma_data), log_normal(*ln_sigma), weight)


def ddpm(sigma_data: float = 0.5) -> DenoisingObjective:
    """One of 1000 steps, equally likely, and ``|n - F|^2``; Ho et al. (2020), eq. 14."""
    return _discrete_objective(parameterizations.linear_alphas_cumprod())


def ddpm_cosine(sigma_data: float = 0.5) -> DenoisingObjective:
    """As ``ddpm``, at the levels of Nichol and Dhariwal (2021), eq. 17."""
    return _discrete_objective(parameterizations.cosine_alphas_cumprod())


def vp(sigma_data: float = 0.5, t_min: float = 1e-5) -> DenoisingObjective:
    """A time uniform in [t_min, 1], and ``|n - F|^2``; Song et al. (2021), appendix C."""

    def sample_sigma(count: int, source: Stream) -> BatchScalar:
        times = t_min + (1 - t_min) * source.uniform((count,)).double()
        return vp_sigma(times).float()

    return DenoisingObjective(parameterizations.vp(), sample_sigma, noise_prediction_weight)


def ncsn(sigma_data: float = 0.5) -> DenoisingObjective:
    """A level of a geometric sequence, equally likely, and ``|sigma s + n|^2``, ``s`` the score.

    Song and Ermon (2019), eq. 5 and 6 with ``lambda = sigma^2``; the network says ``sigma s``.
    """
    sample_sigma = discrete(parameterizations.geometric_sigmas())
    return DenoisingObjective(parameterizations.ncsn(), sample_sigma, noise_prediction_weight)


def _discrete_objective(alphas_cumprod: Float[Tensor, " steps"]) -> DenoisingObjective:
    sample_sigma = discrete(parameterizations.alphas_cumprod_to_sigmas(alphas_cumprod))
    family = parameterizations.ddpm(alphas_cumprod)
    return DenoisingObjective(family, sample_sigma, noise_prediction_weight)


def log_normal(mean: float, std: float) -> SigmaSampler:
    """``ln sigma ~ N(mean, std^2)``."""
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
    """The objective of a family; only EDM's depends on ``sigma_data`` and ``ln_sigma``."""
    if family not in FAMILIES:
        raise UnknownNameError(f"no family {family!r}; {did_you_mean(family, list(FAMILIES))}")
    return edm(sigma_data, ln_sigma) if family == "edm" else FAMILIES[family](sigma_data)


def build_denoising_loss(
    objective: DenoisingObjective, null_label: int, label_dropout: float = 0.1, hflip: bool = True
) -> PerSampleLoss:
    """``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, each image at its own level.

    Args:
        label_dropout: fraction of the labels replaced by ``null_label``: one network learns both
            the class-conditional and the unconditional model (Ho and Salimans 2021).
        hflip: whether half of the images are mirrored.
    """
    prepare = partial(
        sample_training_pair,
        objective=objective, null_label=null_label, label_dropout=label_dropout, hflip=hflip,
    )  # fmt: skip
    return PerSampleLoss(prepare, denoising_loss)


def sample_training_pair(
    images: Images,
    labels: Labels,
    source: Stream,
    objective: DenoisingObjective,
    null_label: int,
    label_dropout: float,
    hflip: bool,
) -> BatchTensors:
    """``x0``, ``x0 + sigma n``, ``sigma``, labels and weights, a row an image.

    All is drawn on the CPU, so that every device sees the same numbers.
    """
    # drawn in any case: what follows is the same with and without hflip
    flipped = random_flip(images, source)
    x0 = 2 * (flipped if hflip else images) - 1
    sigma = objective.sample_sigma(len(x0), source).to(x0)
    n = source.normal(x0.shape).to(x0)
    dropped = (source.uniform((len(x0),)) < label_dropout).to(labels.device)
    labels = torch.where(dropped, null_label, labels).to(x0.device)
    return x0, x0 + sigma[:, None, None, None] * n, sigma, labels, objective.weight(sigma)


def denoising_loss(model: nn.Module, inputs: BatchTensors) -> BatchScalar:
    """``w |D(x; sigma, y) - x0|^2``, its mean over the pixels of each image."""
    x0, x, sigma, labels, weight = inputs
    error = model(x, sigma, labels).float() - x0
    return weight * error.square().flatten(1).mean(1)
