"""Translation by whole pixels on the torus: an exact Neyman-Pearson bound.

Noise is a Gaussian displacement, rounded to pixels.  It takes finitely many values on the torus, so
the worst classifier is found by sorting them.  Cohen et al. (2019), lemma 3, for discrete noise.
"""

import math
from functools import cache
from itertools import groupby, product

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr

from scoreag.certify.transforms._transform import Deviations, Parameters, Quantity, Size, Transform
from scoreag.core.rng import Noise
from scoreag.core.types import Images

ROUNDING = 1e-9  # of sums of probabilities, in favor of abstaining
TAIL = 10.0  # standard deviations, beyond which the noise has a probability of 1e-23


def apply(images: Images, parameters: Parameters) -> Images:
    """Each image rolled down and right by its displacement; what leaves comes in opposite.

    Args:
        parameters: whole pixels (down, right) of each image.
    """
    batch, channels, height, width = images.shape
    down, right = parameters.round().long().to(images.device).T
    rows = (torch.arange(height, device=images.device) - down[:, None]) % height
    columns = (torch.arange(width, device=images.device) - right[:, None]) % width
    image = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def sample(noise: Noise, images: Images, sigma: Deviations) -> Parameters:
    """Displacements ``round(sigma n)`` in each direction."""
    normal = noise.normal_like(images.new_zeros(len(images), 2))
    return (sigma[0] * normal).round()


def certify(p: float, sigma: Deviations, size: Size) -> dict[str, float]:
    """The largest r such that no displacement of Euclidean length r or less can take the majority.

    At most the farthest displacement on the torus: then no displacement at all can.
    """
    height, width = size
    quadrant = product(range(height // 2 + 1), range(width // 2 + 1))  # the noise is symmetric
    radius = 0.0
    for square, shifts in groupby(sorted(quadrant, key=_square), _square):
        if any(p <= critical_probability(shift, sigma[0], size) + ROUNDING for shift in shifts):
            break
        radius = math.sqrt(square)
    return {"radius": radius}


def _square(shift: tuple[int, int]) -> int:
    return shift[0] ** 2 + shift[1] ** 2


@cache
def critical_probability(shift: tuple[int, int], sigma: float, size: Size) -> float:
    """The p above which a class keeps the majority when the image moves by ``shift``.

    ``max P(S)`` over sets S of displacements with ``P(S - shift) <= 1/2``, P the noise: these take
    the displacements in the order of their likelihood ratio.  The last may be taken in part.
    """
    axes = [rounded_gaussian(sigma, count) for count in size]
    moved_axes = [np.roll(axis, step) for axis, step in zip(axes, shift, strict=True)]
    clean, moved = np.outer(*axes).ravel(), np.outer(*moved_axes).ravel()
    total = clean + moved
    clean, moved = clean[total > 0], moved[total > 0]  # elsewhere both underflow
    order = np.argsort(-clean / (clean + moved), kind="stable")
    clean, moved = clean[order], moved[order]
    before = np.cumsum(moved) - moved
    part = np.clip((0.5 - before) / np.maximum(moved, np.finfo(float).tiny), 0, 1)
    part[before > 0.5] = 0
    return float((part * clean).sum())


@cache
def rounded_gaussian(sigma: float, size: int) -> Float[np.ndarray, " size"]:
    """The distribution of ``round(sigma n) mod size``: Gaussian areas, wrapped around."""
    turns = math.ceil(TAIL * sigma / size) + 1
    distance = np.abs(np.arange(size) + size * np.arange(-turns, turns + 1)[:, None])
    # in the lower tail, where differences keep their digits
    area = ndtr((0.5 - distance) / sigma) - ndtr((-0.5 - distance) / sigma)
    return area.sum(0)


TRANSFORM = Transform(
    name="translation",
    noise=("the displacement in each direction, in pixels",),
    sigma=(2.0,),
    apply=apply,
    sample=sample,
    certify=certify,
    quantities=(
        Quantity("radius", "length of the displacement, pixels", (1.0, 2.0, 3.0, 4.0, 6.0)),
    ),
    guarantee=(
        "No translation of the image by whole pixels, of a Euclidean length up to its certified "
        "radius, changes the prediction of the smoothed classifier; what leaves the image on one "
        "side comes in on the opposite one."
    ),
)
