"""Balls around an image: where a search starts, its steepest direction, its way back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Images


@dataclass(frozen=True)
class Ball:
    """What a search needs to know of a norm, for a ball of radius 1."""

    start: Callable[[Images, Noise], Images]  # uniform in the ball, with the shape of the images
    ascent: Callable[[Images], Images]  # the steepest direction of length 1, given a gradient
    project: Callable[[Images], Images]  # the nearest point of the ball
    size: Callable[[Images], Tensor]  # the norm, shaped to divide the images


def uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform on [-1, 1)."""
    return 2 * noise.uniform_like(like) - 1


def lengths(x: Images) -> Tensor:
    """Euclidean, one an image, shaped to divide the images; never 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def within(images: Images, change: Images, epsilon: float) -> Images:
    """``images + epsilon change``, in the range of pixels.

    The range is cut last: that brings every pixel nearer to its original.
    """
    return (images + epsilon * change).clamp(0, 1)


def cut(x: Images) -> Images:
    """``x`` in [0, 1], with the gradient of ``x``: for what leaves the range by rounding alone."""
    return x + (x.clamp(0, 1) - x).detach()


def _start_l2(images: Images, noise: Noise) -> Images:
    """A direction, and the d-th root of a uniform number as its length."""
    direction = noise.at("direction").normal_like(images)
    share = (1 + uniform(noise.at("length"), images[:, :1, :1, :1])) / 2
    return direction / lengths(direction) * share ** (1 / images[0].numel())


BALLS = {
    "linf": Ball(
        start=lambda images, noise: uniform(noise.at("start"), images),
        ascent=torch.sign,
        project=lambda x: x.clamp(-1, 1),
        size=lambda x: x.abs().flatten(1).amax(1)[:, None, None, None],
    ),
    "l2": Ball(
        start=_start_l2,
        ascent=lambda gradient: gradient / lengths(gradient),
        project=lambda x: x / lengths(x).clamp(min=1),
        size=lengths,
    ),
}
