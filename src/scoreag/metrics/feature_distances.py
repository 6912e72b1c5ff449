"""Distances between two sets of images in a network's features: FID, KID, precision and recall.

Such a number means nothing without the name of the features and the number of images.
The Frechet distance (Heusel et al. 2017, eq. 6) is biased upwards with few images: compare sets of
equal size only.  The kernel distance (Binkowski et al. 2018, section 4) has no such bias.
Precision and recall are the improved ones of Kynkaanniemi et al. (2019), eq. 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Num
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
        """In float64; ``extractor`` names what the features come from."""
        rows = features.double()
        return Moments(len(rows), rows.sum(0), rows.T @ rows, extractor)

    def __add__(self, other: "Moments", sign: int = 1) -> "Moments":
        _check_extractors(self, other)
        total = self.feature_sum + sign * other.feature_sum
        outer = self.second_moment + sign * other.second_moment
        return Moments(self.count + sign * other.count, total, outer, self.extractor)

    def __sub__(self, other: "Moments") -> "Moments":
        return self.__add__(other, -1)

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
    """The moments of ``extract(images)``, computed in batches; ``extractor`` names it."""
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
    """The distance, and its error by the delete-a-block jackknife; Shao and Wu (1989).

    ``error^2 = (B - 1)/B sum_i (F_i - mean F)^2``, where F_i lacks block i of both sets.  Rows go
    to the blocks in turn: shuffle them before.

    Raises:
        ValueError: there are too few images for 2 blocks.
    """
    n_blocks = _count_blocks(a, b, n_blocks)
    of = partial(Moments.from_features, extractor=extractor)
    of_a, of_b = of(a), of(b)
    values = [
        frechet_distance(of_a - of(a[i::n_blocks]), of_b - of(b[i::n_blocks]))
        for i in range(n_blocks)
    ]
    variance = torch.tensor(values, dtype=torch.float64).var(correction=0)
    return Estimate(frechet_distance(of_a, of_b), float(((n_blocks - 1) * variance).sqrt()))


def _count_blocks(a: Features, b: Features, n_blocks: int) -> int:
    """At most ``n_blocks``, so that each has at least two images."""
    n_blocks = min(n_blocks, len(a) // 2, len(b) // 2)
    if n_blocks < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} images make no 2 blocks of 2; give at least 4 of each"
        )
    return n_blocks


CHUNK = 512  # rows of the kernel's matrix in memory


def compute_kid(a: Features, b: Features) -> float:
    """``mean_(i != j) k(a_i, a_j) + mean_(i != j) k(b_i, b_j) - 2 mean_(i, j) k(a_i, b_j)``.

    The kernel is ``k(x, y) = (x.y / d + 1)^3`` in d features.

    Raises:
        ValueError: a set has fewer than 2 rows.
    """
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ValueError(f"{n} and {m} images have no kernel distance; give at least 2 of each")
    a, b = a.double(), b.double()
    within_a = (_kernel_sum(a, a) - _kernel_diagonal_sum(a)) / (n * (n - 1))
    within_b = (_kernel_sum(b, b) - _kernel_diagonal_sum(b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * _kernel_sum(a, b) / (n * m))


def kid_with_std_error(a: Features, b: Features, n_blocks: int = 20) -> Estimate:
    """``compute_kid``, and its standard error from disjoint blocks of both sets.

    The error is that of the mean over the blocks, ``sd / n_blocks^(1/2)``, an upper bound of that
    of all pairs.  Rows go to the blocks in turn: shuffle them before.
    """
    n_blocks = _count_blocks(a, b, n_blocks)
    values = torch.tensor([compute_kid(a[i::n_blocks], b[i::n_blocks]) for i in range(n_blocks)])
    return Estimate(compute_kid(a, b), float(values.std()) / math.sqrt(n_blocks))


def _kernel_sum(a: Features, b: Features) -> Tensor:
    """The sum of the kernel over all pairs."""
    total = a.new_zeros(())
    for part in a.split(CHUNK):
        total = total + (part @ b.T / a.shape[1] + 1).pow(3).sum()
    return total


def _kernel_diagonal_sum(a: Features) -> Tensor:
    """The sum of the kernel of each row with itself."""
    return (a.square().sum(1) / a.shape[1] + 1).pow(3).sum()


K_NEIGHBORS = 3  # the paper's


def in_manifold(queries: Features, references: Features, k: int) -> Bool[Tensor, " _"]:
    """Whether each query is closer to some reference than that one's k-th nearest neighbor."""
    reach = kth_neighbor_distances(references, k).square()
    inside = [
        (squared_distances(part, references) <= reach).any(1) for part in queries.split(QUERY_CHUNK)
    ]
    return torch.cat(inside)


def precision(generated: Features, real: Features, k: int = K_NEIGHBORS) -> Bool[Tensor, " _"]:
    """Which of the generated images are in the manifold of the real ones."""
    return in_manifold(generated, real, k)


def recall(generated: Features, real: Features, k: int = K_NEIGHBORS) -> Bool[Tensor, " _"]:
    """Which of the real images are in the manifold of the generated ones."""
    return in_manifold(real, generated, k)


Vectors = Num[Tensor, "_ dims"]
QUERY_CHUNK = 512  # queries at once
REFERENCE_CHUNK = 8192  # references at once


class Nearest(NamedTuple):
    """The Euclidean distance to the nearest reference, and its row."""

    distance: Float[Tensor, " _"]
    indices: Int[Tensor, " _"]


def squared_distances(a: Vectors, b: Vectors) -> Float[Tensor, "_ _"]:
    """``|a_i|^2 + |b_j|^2 - 2 a_i.b_j``, in float64: exact if the entries are integers."""
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp(min=0)


def find_nearest(queries: Tensor, references: Tensor) -> Nearest:
    """For each query the nearest reference; images are compared pixel by pixel.

    The distance is in units of the entries: for pixels 0 to 255, divide it by 255.
    """
    references = references.flatten(1)
    parts = [_find_nearest_chunk(q.flatten(1), references) for q in queries.split(QUERY_CHUNK)]
    return Nearest(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _find_nearest_chunk(queries: Tensor, references: Tensor) -> Nearest:
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(references), REFERENCE_CHUNK):
        part = references[start : start + REFERENCE_CHUNK]
        squares, rows = squared_distances(queries, part).min(1)
        closer = squares < best
        best, index = torch.where(closer, squares, best), torch.where(closer, rows + start, index)
    return Nearest(best.sqrt(), index)


def kth_neighbor_distances(rows: Vectors, k: int) -> Float[Tensor, " _"]:
    """For each row the distance to its ``k``-th nearest among the others."""
    if len(rows) <= k:
        raise ValueError(f"{len(rows)} images have no neighbor number {k}; give more than {k}")
    parts = []
    for start in range(0, len(rows), QUERY_CHUNK):
        squares = squared_distances(rows[start : start + QUERY_CHUNK], rows)
        own = torch.arange(len(squares), device=rows.device)
        squares[own, start + own] = torch.inf  # a row is not its own neighbor
        parts.append(squares.kthvalue(k, dim=1).values.sqrt())
    return torch.cat(parts)
