"""Whether a score model repeats its training images: the nearest of them to each draw.

A model that copies draws nearer to its training images than test images lie, and the closest
pairs look the same.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from scoreag.figures.entries import Entry, of_quantile
from scoreag.metrics.neighbours import Nearest, nearest

Pixels = UInt8[Tensor, "_ channel height width"]


@dataclass(frozen=True)
class Pairs:
    """Draws beside the training image that each is nearest to, the closest first."""

    drawn: Pixels
    training: Pixels
    distance: tuple[float, ...]


def in_pixels(images: Pixels, training: Pixels, device: Any) -> Nearest:
    """The nearest training image to each image; Euclidean, pixels in [0, 1]."""
    found = nearest(images.to(device), training.to(device))
    return Nearest(found.distance.cpu() / 255, found.which.cpu())


def quantiles(found: Nearest, of: str, among: int) -> dict[str, Entry]:
    """The median and the 5 % quantile of the distances."""
    of = f"{of}, each to the nearest of {among} training images"
    shares = {"median": 0.5, "lowest_5_percent": 0.05}
    return {name: of_quantile(found.distance, share, of) for name, share in shares.items()}


def closest(images: Pixels, training: Pixels, found: Nearest, count: int = 8) -> Pairs:
    """The ``count`` images that come nearest to a training image."""
    order = found.distance.argsort(stable=True)[:count]
    return Pairs(images[order], training[found.which[order]], tuple(found.distance[order].tolist()))
