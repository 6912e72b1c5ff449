"""Balls of a perceptual distance, which no formula projects onto: bisection on the way back.

The distance is ``|phi(x) - phi(x')|^2`` of an embedding phi, as LPIPS is. Whoever runs an attack
within it gives the weights: they are no option, but what the attack needs to be run.
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import BatchScalar, Images

BISECTION_STEPS = 12  # of the way back: it is then known to 1 in 4,096


@runtime_checkable
class PerceptualEmbedding(Protocol):
    """``metrics.lpips.Lpips``, or another distance that comes from an embedding."""

    def embed(self, images: Images) -> Float[Tensor, "batch features"]: ...


def require_lpips(attack: Any) -> PerceptualEmbedding:
    """The distance that an attack was given.

    Raises:
        ValueError: it was given none.
    """
    if attack.lpips is None:
        name = type(attack).__module__.rpartition(".")[2]
        raise ValueError(
            f"{name} needs the weights of LPIPS: give lpips=scoreag.metrics.lpips.load_lpips(features, "
            "heads) with two .npz files"
        )
    found: PerceptualEmbedding = attack.lpips
    return found


def embedding_distance(embedding: Float[Tensor, "batch features"], other: Tensor) -> BatchScalar:
    """The distance between what two images are embedded as."""
    return (embedding - other).square().sum(1)


@torch.no_grad()
def project_by_bisection(
    lpips: PerceptualEmbedding, images: Images, perturbed: Images, eps: float
) -> Images:
    """The furthest point between each image and where it was moved that is within ``bound``.

    Found by bisection, as if the distance grew along the way; what is returned is within it.
    """
    home = lpips.embed(images)
    inside = embedding_distance(lpips.embed(perturbed), home) <= eps
    low, high = inside.to(images), torch.ones_like(inside, dtype=images.dtype)
    for _ in range(0 if inside.all() else BISECTION_STEPS):
        middle = (low + high) / 2
        near = embedding_distance(lpips.embed(_interpolate(images, perturbed, middle)), home) <= eps
        low, high = torch.where(near, middle, low), torch.where(near, high, middle)
    return _interpolate(images, perturbed, low)


def _interpolate(images: Images, perturbed: Images, fraction: BatchScalar) -> Images:
    part = fraction[:, None, None, None]
    return torch.where(part < 1, images + part * (perturbed - images), perturbed).clamp(0, 1)
