"""Whether a score model repeats its training images: the nearest of them to each draw.

A model that copies draws nearer to its training images than test images lie, and the closest
pairs look the same.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from scoreag.metrics.feature_distances import Nearest, find_nearest
from scoreag.stats.estimates import MetricEntry, estimate_quantile

Pixels = UInt8[Tensor, "_ channel height width"]


@dataclass(frozen=True)
class NearestPairs:
    """Draws beside the training image that each is nearest to, the closest first."""

    generated: Pixels
    training: Pixels
    distance: tuple[float, ...]


def find_nearest_in_pixels(images: Pixels, training: Pixels, device: Any) -> Nearest:
    """The nearest training image to each image; Euclidean, pixels in [0, 1]."""
    found = find_nearest(images.to(device), training.to(device))
    return Nearest(found.distance.cpu() / 255, found.indices.cpu())


def distance_quantiles(
    neighbors: Nearest, population: str, n_training: int
) -> dict[str, MetricEntry]:
    """The median and the 5 % quantile of the distances."""
    population = f"{population}, each to the nearest of {n_training} training images"
    shares = {"median": 0.5, "lowest_5_percent": 0.05}
    return {
        name: estimate_quantile(neighbors.distance, share, population)
        for name, share in shares.items()
    }


def select_closest(
    images: Pixels, training: Pixels, neighbors: Nearest, count: int = 8
) -> NearestPairs:
    """The ``count`` images that come nearest to a training image."""
    order = neighbors.distance.argsort(stable=True)[:count]
    return NearestPairs(
        images[order], training[neighbors.indices[order]], tuple(neighbors.distance[order].tolist())
    )
