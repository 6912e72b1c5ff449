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
from scoreag.stats.estimates import Estimate

Features = Float[Tensor, "_ features"]


@dataclass(frozen=True)
class Moments:
    """Count, sum and sum of outer products: they add up, so shards can be merged in any order."""

    count: int
    feature_sum: Float[Tensor, " features"]
    second_moment: Float[Tensor, "features features"]
    extractor: str

    @staticmethod
    def from_features(features: Features, extractor: str) -> "Moments":
        """In float64, under the name of what extracted the features."""
        rows = features.double()
        return Moments(len(rows), rows.sum(0), rows.T @ rows, extractor)

    def __add__(self, other: "Moments") -> "Moments":
        _check_extractors(self, other)
        total, outer = (
            self.feature_sum + other.feature_sum,
            self.second_moment + other.second_moment,
        )
        return Moments(self.count + other.count, total, outer, self.extractor)

    @property
    def mean(self) -> Float[Tensor, " features"]:
        return self.feature_sum / self.count

    @property
    def covariance(self) -> Float[Tensor, "features features"]:
        """The unbiased one."""
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance; give at least 2")
        centered = self.second_moment - self.count * torch.outer(self.mean, self.mean)
        return centered / (self.count - 1)


@torch.no_grad()
def compute_moments(
    images: Images, extract: Callable[[Images], Features], extractor: str, batch_size: int = 128
) -> Moments:
    """The moments of ``extract(images)``, ``batch`` images at a time; ``extractor`` names it."""
    first, *rest = (
        Moments.from_features(extract(part), extractor) for part in images.split(batch_size)
    )
    return sum(rest, start=first)


def frechet_distance(a: Moments, b: Moments) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, in squared units of the features.

    The trace of the root is the nuclear norm of ``C_a^(1/2) C_b^(1/2)``: no complex numbers, and
    no matrix root of a product that is not symmetric.
    """
    _check_extractors(a, b)
    cross = torch.linalg.matrix_norm(
        _matrix_sqrt(a.covariance) @ _matrix_sqrt(b.covariance), ord="nuc"
    )
    shift = (a.mean - b.mean).square().sum()
    return float(shift + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def _matrix_sqrt(matrix: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _check_extractors(a: Moments, b: Moments) -> None:
    if a.extractor != b.extractor:
        raise ValueError(
            f"features of {a.extractor!r} and of {b.extractor!r} cannot be compared; "
            "extract both sets with the same network"
        )


def fid_with_jackknife(a: Features, b: Features, extractor: str, n_blocks: int = 20) -> Estimate:
    """The distance of all, and the error of the delete-a-block jackknife; Shao and Wu (1989).

    ``error^2 = (B - 1)/B sum_i (F_i - mean F)^2``, where F_i lacks block i of both sets.  Rows are
    dealt to the blocks in turn: put them in a random order before.

    Raises:
        ValueError: there are too few images for 2 blocks.
    """
    n_blocks = min(n_blocks, len(a) // 2, len(b) // 2)
    if n_blocks < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} images make no 2 blocks of 2; give at least 4 of each"
        )
    of_a, of_b = Moments.from_features(a, extractor), Moments.from_features(b, extractor)
    values = torch.tensor(
        [
            frechet_distance(
                _subtract_moments(of_a, Moments.from_features(a[i::n_blocks], extractor)),
                _subtract_moments(of_b, Moments.from_features(b[i::n_blocks], extractor)),
            )
            for i in range(n_blocks)
        ],
        dtype=torch.float64,
    )
    error = ((n_blocks - 1) * values.var(correction=0)).sqrt()
    return Estimate(frechet_distance(of_a, of_b), float(error))


def _subtract_moments(whole: Moments, part: Moments) -> Moments:
    return Moments(
        whole.count - part.count, whole.feature_sum - part.feature_sum, whole.second_moment - part.second_moment,
        whole.extractor,
    )  # fmt: skip
