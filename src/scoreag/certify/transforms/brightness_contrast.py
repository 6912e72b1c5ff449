"""Brightness and contrast, ``e^k (x + b)``, with Gaussian noise of k and b.  TSS, section 5.2.

A change (k, b) and then noise (k', b') are the one change ``(k + k', b + e^-k b')``:

    e^k' (e^k (x + b) + b') = e^(k + k') (x + b + e^-k b').

So the change moves the mean of the noise by (k, b) and scales its deviation in b by e^-k.  This
holds only if nothing is clipped between the two.
"""

import math
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from scoreag.certify.transforms._transform import Deviations, Parameters, Quantity, Size, Transform
from scoreag.core.rng import Noise
from scoreag.core.types import Images

Cells: TypeAlias = Float[np.ndarray, " cells"]

CELLS = 20_000  # of k, for the radius
BISECTIONS = 60  # each halves the interval of k: to rounding


def apply(images: Images, parameters: Parameters) -> Images:
    """``e^k (x + b)``, not clipped to [0, 1].

    Args:
        parameters: (k, b) of each image: the logarithm of the contrast, and the brightness in
            pixels in [0, 1].
    """
    k, b = parameters.to(images).T[:, :, None, None, None]
    return k.exp() * (images + b)


def sample(noise: Noise, images: Images, sigma: Deviations) -> Parameters:
    """Independent Gaussian k and b of mean 0."""
    normal = noise.normal_like(images.new_zeros(len(images), 2))
    return normal * normal.new_tensor(sigma)


def scaled_probability(p: float, k: Cells) -> Cells:
    """The least probability of a class once the deviation of b is scaled by e^-k; p before.

    By Neyman and Pearson, the worst class holds the small ``|b|`` where the noise widens, k < 0,
    and the large ``|b|`` where it shrinks:

        k <= 0: 2 Phi(e^k Phi^-1((1 + p) / 2)) - 1,    k > 0: 2 Phi(e^k Phi^-1(p / 2)).
    """
    scale = np.exp(k)
    widened = 2 * ndtr(scale * ndtri((1 + p) / 2)) - 1
    return np.where(scale <= 1, widened, 2 * ndtr(scale * ndtri(p / 2)))


def distance_left(p: float, k: Cells) -> Cells:
    """``q(k) = Phi^-1(p')``, p' the ``scaled_probability``; 0 where p' is 1/2 or less.

    A change (k, b) is certified if ``(k / sigma_k)^2 + (e^k b / sigma_b)^2 < q(k)^2``: a Gaussian
    of deviations ``(sigma_k, e^-k sigma_b)`` moves by (k, b).  The two worst cases, of the scale
    and of the move, are of different classes, so that the region is not the largest one.
    """
    return ndtri(np.maximum(scaled_probability(p, k), 0.5))


def certify(p: float, sigma: Deviations, size: Size) -> dict[str, float]:
    """The sizes below which all changes are in the certified region of ``distance_left``.

    radius: of ``((k / sigma_k)^2 + (b / sigma_b)^2)^(1/2)``, both together.
    brightness: of ``|b|`` where k = 0: ``sigma_b Phi^-1(p)``.
    contrast: the factor c for which all ``e^k`` from 1/c to c are certified where b = 0.
    """
    return {
        "radius": min(half_radius(p, sigma[0], sign) for sign in (-1, 1)),
        "brightness": sigma[1] * float(ndtri(p)),
        "contrast": math.exp(largest_contrast(p, sigma[0])),
    }


def largest_contrast(p: float, sigma_k: float) -> float:
    """The ``|k|`` below which changes (k, 0) of both signs are certified.

    In ``|k| / sigma_k < q(k)`` the left side rises and the right side falls with ``|k|``, so that
    bisection finds where they meet.
    """
    signs, low, high = np.array([-1.0, 1.0]), np.zeros(2), np.full(2, sigma_k * ndtri(p))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = middle / sigma_k < distance_left(p, signs * middle)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return float(low.min())


def half_radius(p: float, sigma_k: float, sign: int) -> float:
    """The radius of the largest half disk in the region, where k has this sign.

    In ``(u, v) = (k / sigma_k, b / sigma_b)``, a point outside of the region is at a distance of at
    least ``(u^2 + e^(-2 k) (q(k)^2 - u^2))^(1/2)``, if that difference is not negative.  As q falls
    with ``|k|``, this has a lower bound in each of many cells of k; the least of them is returned.
    """
    ends = np.linspace(0, ndtri(p), CELLS + 1)  # |u|; beyond, q(k) < |u|
    near, far = ends[:-1], ends[1:]
    rest = np.maximum(distance_left(p, sign * sigma_k * far) ** 2 - far**2, 0)
    shrink = np.exp(-2 * sigma_k * (far if sign > 0 else -near))
    return math.sqrt((near**2 + shrink * rest).min())


TRANSFORM = Transform(
    name="brightness-contrast",
    noise=("the logarithm of the contrast", "the brightness, pixels in [0, 1]"),
    sigma=(0.2, 0.2),
    apply=apply,
    sample=sample,
    certify=certify,
    quantities=(
        Quantity("radius", "both, in deviations of the noise", (0.5, 1.0, 1.5, 2.0, 3.0)),
        Quantity("brightness", "brightness alone, pixels in [0, 1]", (0.1, 0.2, 0.3, 0.4)),
        Quantity("contrast", "factor of the contrast alone", (1.1, 1.2, 1.3, 1.5)),
    ),
    guarantee=(
        "No change of the image x to e^k (x + b) changes the prediction of the smoothed "
        "classifier, where (k / sigma_k)^2 + (b / sigma_b)^2 is below the square of its certified "
        "radius. The changed image is not clipped to [0, 1]."
    ),
)
