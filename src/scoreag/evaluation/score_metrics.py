"""What is measured of a score model: sample quality, memorization, denoising loss.

Sample quality compares generated images with test images in one network's features.  Its baseline
is what as many training images score: no score model is expected to do better.  A model that copies
comes nearer to its training images than test images do, and its denoising loss falls on training
images and not on others (Karras et al. 2022, table 1).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Noise, Stream
from scoreag.core.types import Labels
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.io.images import to_float
from scoreag.metrics.feature_distances import (
    K_NEIGHBORS,
    Nearest,
    fid_with_jackknife,
    find_nearest,
    kid_with_std_error,
    precision,
    recall,
)
from scoreag.metrics.feature_extractors import Features, Pixels
from scoreag.stats.estimates import MetricEntry, estimate_quantile, from_estimate, from_proportion
from scoreag.stats.proportion import compute_proportion
from scoreag.training.losses import edm

JACKKNIFE_METHOD = "jackknife, 20 blocks left out in turn"
BLOCK_METHOD = "20 disjoint blocks"
SIGMA_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # units of the state
MAX_IMAGES = 1000  # images of a set whose loss is measured


def measure_sample_quality(
    generated: Features, real: Features, extractor_name: str, population: str
) -> dict[str, MetricEntry]:
    """Fréchet and kernel distance, precision and recall, each under ``METRIC_extractor``.

    They depend on the number of images: all sets that are compared have the same.
    """
    generated, real = _shuffle(generated), _shuffle(real)
    total = len(generated)
    pair = f"{population}, against {len(real)} test images"
    fid = fid_with_jackknife(generated, real, extractor_name)
    kernel = kid_with_std_error(generated, real)
    metrics = {
        f"frechet_{extractor_name}": from_estimate(fid, pair, total, JACKKNIFE_METHOD),
        f"kernel_{extractor_name}": from_estimate(kernel, pair, total, BLOCK_METHOD),
    }
    if min(total, len(real)) > K_NEIGHBORS:
        among = f"test images, within the reach of {total} {population}"
        for name, hits, of in (
            ("precision", precision(generated, real), pair),
            ("recall", recall(generated, real), among),
        ):
            metrics[f"{name}_{extractor_name}"] = from_proportion(compute_proportion(hits, of))
    return metrics


def _shuffle(rows: Features) -> Features:
    """In an order of no meaning, always the same: a block shall not be a class."""
    return rows[Stream("blocks", len(rows)).permutation(len(rows))]


@dataclass(frozen=True)
class NearestPairs:
    """Generated images beside the training image that each is nearest to, the closest first."""

    generated: Pixels
    training: Pixels
    distance: tuple[float, ...]


def find_nearest_in_pixels(images: Pixels, training: Pixels, device: Any) -> Nearest:
    """The nearest training image to each image; Euclidean, pixels in [0, 1]."""
    nearest = find_nearest(images.to(device), training.to(device))
    return Nearest(nearest.distance.cpu() / 255, nearest.indices.cpu())


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
    distance = tuple(neighbors.distance[order].tolist())
    return NearestPairs(images[order], training[neighbors.indices[order]], distance)


@torch.no_grad()
def measure_denoising_loss(
    prior: Prior,
    pixels: Pixels,
    labels: Labels | None,
    image_ids: list[int],
    sigma_data: float,
    pad_to: int = 0,
) -> Float[Tensor, "count levels"]:
    """``w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, of each image at each level.

    ``w = (sigma^2 + sd^2) / (sigma sd)^2``, EDM's, whatever family was trained.  The noise n is
    keyed by the image, and is another one at each level.

    Args:
        pad_to: the network sees as many images, the last of them repeated.
    """
    count, device = len(pixels), prior.sigmas.device
    padded = [*range(count), *[count - 1] * (pad_to - count)]
    x0 = to_model_range(to_float(pixels[padded].to(device)))
    y = None if labels is None else labels[padded].to(device)
    source = Noise(0, [image_ids[i] for i in padded]).fold_in("loss")
    weight, losses = edm(sigma_data).weight, []
    for i, level in enumerate(SIGMA_LEVELS):
        sigma = torch.tensor(level, device=device)
        error = prior.model(x0 + sigma * source.fold_in(i).normal_like(x0), sigma, y) - x0
        losses.append(weight(sigma[None]) * error.square().flatten(1).mean(1)[:count])
    return torch.stack(losses, 1).cpu()
