"""Learn to denoise: what a network is asked, and what its answer costs."""

from functools import partial

import torch
from torch import nn

from scoreag.core.rng import Stream
from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.training.augment import random_flip
from scoreag.training.loop import BatchTensors, PerSampleLoss
from scoreag.training.noise_distributions import DenoisingObjective


def build_denoising_loss(
    objective: DenoisingObjective, null_label: int, label_dropout: float = 0.1, hflip: bool = True
) -> PerSampleLoss:
    """``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, each image at a level of its own.

    Args:
        dropped: share of the labels replaced by ``null_label``: one network learns both the
            class-conditional and the unconditional model (Ho and Salimans 2021).
        mirror: whether half of the images are shown mirrored.
    """
    asked = partial(
        sample_training_pair,
        objective=objective,
        null_label=null_label,
        label_dropout=label_dropout,
        hflip=hflip,
    )
    return PerSampleLoss(asked, denoising_loss)


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
    mirrored = random_flip(
        images, source
    )  # drawn in any case: what follows is the same with and without
    x0 = 2 * (mirrored if hflip else images) - 1
    sigma = objective.sample_sigma(len(x0), source).to(x0)
    n = source.normal(x0.shape).to(x0)
    withheld = (source.uniform((len(x0),)) < label_dropout).to(labels.device)
    told = torch.where(withheld, null_label, labels).to(x0.device)
    return x0, x0 + sigma[:, None, None, None] * n, sigma, told, objective.weight(sigma)


def denoising_loss(model: nn.Module, inputs: BatchTensors) -> BatchScalar:
    """``w |D(x; sigma, y) - x0|^2``, its mean over the pixels of each image."""
    x0, x, sigma, told, weight = inputs
    error = model(x, sigma, told).float() - x0
    return weight * error.square().flatten(1).mean(1)
