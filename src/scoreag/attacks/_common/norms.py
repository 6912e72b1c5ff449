"""Balls around an image: l_p balls with their projections, and balls of a perceptual distance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._common.attack import attack_name
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Images

BISECTION_STEPS = 12  # the way back is then known to 1 in 4,096


@dataclass(frozen=True)
class NormBall:
    """A ball of radius 1 in some norm."""

    random_start: Callable[[Images, Noise], Images]  # uniform, in the shape of the images
    steepest_ascent: Callable[[Images], Images]  # the direction of length 1, given a gradient
    project: Callable[[Images], Images]  # to the nearest point of the ball
    norm: Callable[[Images], Tensor]  # shaped to divide the images


def sample_uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform on [-1, 1)."""
    return 2 * noise.uniform_like(like) - 1


def l2_norms(x: Images) -> Tensor:
    """Euclidean, one an image, shaped to divide the images; never 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def apply_perturbation(images: Images, perturbation: Images, eps: float) -> Images:
    """``images + eps perturbation`` in [0, 1]; the cut comes last, as it only shortens."""
    return (images + eps * perturbation).clamp(0, 1)


def straight_through_clamp(x: Images) -> Images:
    """``x`` in [0, 1], with the gradient of ``x``: for what leaves the range by rounding alone."""
    return x + (x.clamp(0, 1) - x).detach()


def _sample_l2_ball(images: Images, noise: Noise) -> Images:
    """A direction, and the d-th root of a uniform number as its length."""
    direction = noise.fold_in("direction").normal_like(images)
    uniform = (1 + sample_uniform(noise.fold_in("length"), images[:, :1, :1, :1])) / 2
    return direction / l2_norms(direction) * uniform ** (1 / images[0].numel())


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


@runtime_checkable
class PerceptualEmbedding(Protocol):
    """phi of a distance ``|phi(x) - phi(x')|^2``, such as ``metrics.lpips.Lpips``."""

    def embed(self, images: Images) -> Float[Tensor, "batch features"]: ...


def require_lpips(attack: Any) -> PerceptualEmbedding:
    """The distance that an attack was given.

    Raises:
        ValueError: it was given none.
    """
    if attack.lpips is None:
        raise ValueError(
            f"{attack_name(type(attack))} needs the weights of LPIPS: give "
            "lpips=scoreag.metrics.lpips.load_lpips(features, heads) with two .npz files"
        )
    lpips: PerceptualEmbedding = attack.lpips
    return lpips


def embedding_distance(embedding: Float[Tensor, "batch features"], other: Tensor) -> BatchScalar:
    """``|phi - phi'|^2``."""
    return (embedding - other).square().sum(1)


@torch.no_grad()
def project_by_bisection(
    lpips: PerceptualEmbedding, images: Images, perturbed: Images, eps: float
) -> Images:
    """The furthest point on the way from each image to ``perturbed`` within distance ``eps``.

    By bisection, as if the distance grew along the way; the result is inside in any case.
    """
    center = lpips.embed(images)
    inside = embedding_distance(lpips.embed(perturbed), center) <= eps
    low, high = inside.to(images), torch.ones_like(inside, dtype=images.dtype)
    for _ in range(0 if inside.all() else BISECTION_STEPS):
        middle = (low + high) / 2
        embedding = lpips.embed(_interpolate(images, perturbed, middle))
        near = embedding_distance(embedding, center) <= eps
        low, high = torch.where(near, middle, low), torch.where(near, high, middle)
    return _interpolate(images, perturbed, low)


def _interpolate(images: Images, perturbed: Images, fraction: BatchScalar) -> Images:
    part = fraction[:, None, None, None]
    return torch.where(part < 1, images + part * (perturbed - images), perturbed).clamp(0, 1)
