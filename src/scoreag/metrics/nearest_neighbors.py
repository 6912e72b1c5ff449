"""The nearest of given rows, e.g. the training image that a drawn image is most like."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

Vectors = Num[Tensor, "_ dims"]
QUERY_CHUNK = 512  # rows that are asked about at once
REFERENCE_CHUNK = 8192  # given rows that are looked at at once


class Nearest(NamedTuple):
    """The Euclidean distance to the nearest of the given rows, and which it is."""

    distance: Float[Tensor, " _"]
    indices: Int[Tensor, " _"]


def squared_distances(a: Vectors, b: Vectors) -> Float[Tensor, "_ _"]:
    """``|a_i|^2 + |b_j|^2 - 2 a_i.b_j``, in float64: exact where the rows are whole numbers."""
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return squares.clamp(min=0)


def find_nearest(queries: Tensor, references: Tensor) -> Nearest:
    """For each of ``rows`` the nearest of ``given``; images are compared pixel by pixel.

    The distance is in units of the entries: for pixels 0 to 255, divide it by 255.
    """
    found = [
        _find_nearest_chunk(part.flatten(1), references.flatten(1))
        for part in queries.split(QUERY_CHUNK)
    ]
    return Nearest(torch.cat([f.distance for f in found]), torch.cat([f.indices for f in found]))


def _find_nearest_chunk(queries: Tensor, references: Tensor) -> Nearest:
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    index = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for start in range(0, len(references), REFERENCE_CHUNK):
        squares, place = squared_distances(
            queries, references[start : start + REFERENCE_CHUNK]
        ).min(1)
        closer = squares < best
        best, index = torch.where(closer, squares, best), torch.where(closer, place + start, index)
    return Nearest(best.sqrt(), index)


def kth_neighbor_distances(rows: Vectors, k: int) -> Float[Tensor, " _"]:
    """For each row the distance to its ``k``-th nearest among the others."""
    if len(rows) <= k:
        raise ValueError(f"{len(rows)} images have no neighbor number {k}; give more than {k}")
    parts = []
    for start in range(0, len(rows), QUERY_CHUNK):
        squares = squared_distances(rows[start : start + QUERY_CHUNK], rows)
        own = torch.arange(len(squares), device=rows.device)
        squares[own, start + own] = torch.inf  # a row is no neighbor of its own
        parts.append(squares.kthvalue(k, dim=1).values.sqrt())
    return torch.cat(parts)
