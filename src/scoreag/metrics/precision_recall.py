"""Improved precision and recall of drawn images, in features; Kynkaanniemi et al. (2019), eq. 1.

Precision: the share of drawn images that a real one could stand for, which is fidelity.  Recall:
the share of real images that the draws could bring, which is variety.  Both fall with fewer
images: compare only sets of equal size.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.metrics.nearest_neighbors import QUERY_CHUNK, kth_neighbor_distances, squared_distances

Features = Float[Tensor, "_ features"]
K_NEIGHBORS = 3  # the paper's


def in_manifold(
    queries: Features, references: Features, k: int = K_NEIGHBORS
) -> Bool[Tensor, " _"]:
    """Whether each of ``asked`` lies in a ball around some row of ``by``.

    The ball around a row reaches to its ``k``-th nearest neighbor within ``by``.
    """
    reach = kth_neighbor_distances(references, k).square()
    inside = [
        (squared_distances(part, references) <= reach).any(1) for part in queries.split(QUERY_CHUNK)
    ]
    return torch.cat(inside)


def precision(generated: Features, real: Features, k: int = K_NEIGHBORS) -> Bool[Tensor, " _"]:
    """Which of the drawn images lie among the real ones."""
    return in_manifold(generated, real, k)


def recall(generated: Features, real: Features, k: int = K_NEIGHBORS) -> Bool[Tensor, " _"]:
    """Which of the real images lie among the drawn ones."""
    return in_manifold(real, generated, k)
