"""Gaussian blur, whose variances add: exponential noise of the variance.  TSS, section 5.1."""

import math

import torch

from scoreag.certify.transforms._transform import Deviations, Parameters, Quantity, Size, Transform
from scoreag.core.rng import Noise
from scoreag.core.types import Images


def apply(images: Images, parameters: Parameters) -> Images:
    """Periodic Gaussian blur of variance a: frequency w is multiplied by ``exp(-a |w|^2 / 2)``.

    The transfer function is exact on the grid, as that of a sampled kernel is not: blurs of
    variance a and b are together one of variance a + b.

    Args:
        parameters: a >= 0 of each image, in pixels^2.
    """
    height, width = images.shape[2:]
    like = {"dtype": images.dtype, "device": images.device}
    rows, columns = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width, **like)
    square = (2 * math.pi) ** 2 * (rows[:, None] ** 2 + columns**2)
    transfer = torch.exp(-parameters.to(images)[:, :, None, None] * square / 2)
    return torch.fft.irfft2(torch.fft.rfft2(images) * transfer, s=(height, width))


def sample(noise: Noise, images: Images, sigma: Deviations) -> Parameters:
    """Exponential variances of mean, and standard deviation, ``sigma``: ``-sigma ln(1 - u)``."""
    uniform = noise.uniform_like(images.new_zeros(len(images), 1))
    return -sigma[0] * torch.log1p(-uniform)


def certify(p: float, sigma: Deviations, size: Size) -> dict[str, float]:
    """Blurs of a variance below ``-sigma ln(2 - 2 p)`` do not change the prediction.

    A blur of variance a moves the noise to [a, inf), where its density is ``exp(a / sigma)`` times
    what it was.  By Neyman and Pearson the worst classifier spends ``1 - exp(-a / sigma)`` of p on
    [0, a), which is lost.  What remains of p is ``1 - exp(a / sigma) (1 - p)``.
    """
    return {"radius": -sigma[0] * math.log(2 - 2 * p)}


TRANSFORM = Transform(
    name="blur",
    noise=("the variance of the blur, in pixels^2",),
    sigma=(1.0,),
    apply=apply,
    sample=sample,
    certify=certify,
    quantities=(Quantity("radius", "variance of the blur, pixels^2", (0.25, 1.0, 2.25, 4.0)),),
    guarantee=(
        "No periodic Gaussian blur of the image with a variance below its certified radius changes "
        "the prediction of the smoothed classifier."
    ),
)
