"""The Fréchet distance between two sets of images, in features; Heusel et al. (2017), eq. 6.

The extractor is any callable from images to features; its name and the number of images travel
with the moments, since a distance means nothing without them. With few images it is biased
upwards: compare only sets of equal size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Images

Features = Float[Tensor, "batch features"]


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products: they add up, so shards can be merged in any order."""

    count: int
    total: Float[Tensor, " features"]
    outer: Float[Tensor, "features features"]
    extractor: str

    @staticmethod
    def of(features: Features, extractor: str) -> "Moments":
        """In float64, under the name of what extracted the features."""
        rows = features.double()
        return Moments(len(rows), rows.sum(0), rows.T @ rows, extractor)

    def __add__(self, other: "Moments") -> "Moments":
        _check_extractors(self, other)
        total, outer = self.total + other.total, self.outer + other.outer
        return Moments(self.count + other.count, total, outer, self.extractor)

    @property
    def mean(self) -> Float[Tensor, " features"]:
        return self.total / self.count

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """The unbiased one."""
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance; give at least 2")
        centred = self.outer - self.count * torch.outer(self.mean, self.mean)
        return centred / (self.count - 1)


@torch.no_grad()
def moments(
    images: Images, extract: Callable[[Images], Features], extractor: str, batch: int = 128
) -> Moments:
    """The moments of ``extract(images)``, ``batch`` images at a time; ``extractor`` names it."""
    first, *rest = (Moments.of(extract(part), extractor) for part in images.split(batch))
    return sum(rest, start=first)


def frechet_distance(a: Moments, b: Moments) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, in squared units of the features.

    The trace of the root is the nuclear norm of ``C_a^(1/2) C_b^(1/2)``: no complex numbers, and
    no matrix root of a product that is not symmetric.
    """
    _check_extractors(a, b)
    cross = torch.linalg.matrix_norm(_root(a.covariance) @ _root(b.covariance), ord="nuc")
    shift = (a.mean - b.mean).square().sum()
    return float(shift + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def _root(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _check_extractors(a: Moments, b: Moments) -> None:
    if a.extractor != b.extractor:
        raise ValueError(
            f"features of {a.extractor!r} and of {b.extractor!r} cannot be compared; "
            "extract both sets with the same network"
        )
