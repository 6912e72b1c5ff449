"""Learn to denoise: what a network is asked, and what its answer costs."""

from functools import partial

import torch
from torch import nn

from scoreag.core.noise import Stream
from scoreag.core.types import Images, Labels, PerImage
from scoreag.training.augment import flip
from scoreag.training.loop import Rows, Rowwise
from scoreag.training.objectives import Objective


def denoising(
    objective: Objective, null_label: int, dropped: float = 0.1, mirror: bool = True
) -> Rowwise:
    """``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, each image at a level of its own.

    Args:
        dropped: share of the labels replaced by ``null_label``: one network learns both the
            class-conditional and the unconditional model (Ho and Salimans 2021).
        mirror: whether half of the images are shown mirrored.
    """
    asked = partial(
        question, objective=objective, null_label=null_label, dropped=dropped, mirror=mirror
    )
    return Rowwise(asked, cost)


def question(
    images: Images,
    labels: Labels,
    source: Stream,
    objective: Objective,
    null_label: int,
    dropped: float,
    mirror: bool,
) -> Rows:
    """``x0``, ``x0 + sigma n``, ``sigma``, labels and weights, a row an image.

    All is drawn on the CPU, so that every device sees the same numbers.
    """
    mirrored = flip(images, source)  # drawn in any case: what follows is the same with and without
    x0 = 2 * (mirrored if mirror else images) - 1
    sigma = objective.levels(len(x0), source).to(x0)
    n = source.normal(x0.shape).to(x0)
    withheld = (source.uniform((len(x0),)) < dropped).to(labels.device)
    told = torch.where(withheld, null_label, labels).to(x0.device)
    return x0, x0 + sigma[:, None, None, None] * n, sigma, told, objective.weight(sigma)


def cost(model: nn.Module, asked: Rows) -> PerImage:
    """``w |D(x; sigma, y) - x0|^2``, its mean over the pixels of each image."""
    x0, x, sigma, told, weight = asked
    error = model(x, sigma, told).float() - x0
    return weight * error.square().flatten(1).mean(1)
