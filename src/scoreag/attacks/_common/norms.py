"""Balls around an image: where a search starts, its steepest direction, its way back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Images


@dataclass(frozen=True)
class NormBall:
    """What a search needs to know of a norm, for a ball of radius 1."""

    random_start: Callable[
        [Images, Noise], Images
    ]  # uniform in the ball, with the shape of the images
    steepest_ascent: Callable[
        [Images], Images
    ]  # the steepest direction of length 1, given a gradient
    project: Callable[[Images], Images]  # the nearest point of the ball
    norm: Callable[[Images], Tensor]  # the norm, shaped to divide the images


def sample_uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform on [-1, 1)."""
    return 2 * noise.uniform_like(like) - 1


def l2_norms(x: Images) -> Tensor:
    """Euclidean, one an image, shaped to divide the images; never 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def apply_perturbation(images: Images, perturbation: Images, eps: float) -> Images:
    """``images + epsilon change``, in the range of pixels.

    The range is cut last: that brings every pixel nearer to its original.
    """
    return (images + eps * perturbation).clamp(0, 1)


def straight_through_clamp(x: Images) -> Images:
    """``x`` in [0, 1], with the gradient of ``x``: for what leaves the range by rounding alone."""
    return x + (x.clamp(0, 1) - x).detach()


def _sample_l2_ball(images: Images, noise: Noise) -> Images:
    """A direction, and the d-th root of a uniform number as its length."""
    direction = noise.fold_in("direction").normal_like(images)
    share = (1 + sample_uniform(noise.fold_in("length"), images[:, :1, :1, :1])) / 2
    return direction / l2_norms(direction) * share ** (1 / images[0].numel())


NORM_BALLS = {
    "Linf": NormBall(
        random_start=lambda images, noise: sample_uniform(noise.fold_in("start"), images),
        steepest_ascent=torch.sign,
        project=lambda x: x.clamp(-1, 1),
        norm=lambda x: x.abs().flatten(1).amax(1)[:, None, None, None],
    ),
    "L2": NormBall(
        random_start=_sample_l2_ball,
        steepest_ascent=lambda gradient: gradient / l2_norms(gradient),
        project=lambda x: x / l2_norms(x).clamp(min=1),
        norm=l2_norms,
    ),
}
