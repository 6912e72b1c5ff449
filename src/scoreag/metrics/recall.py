"""Improved precision and recall of drawn images, in features; Kynkaanniemi et al. (2019), eq. 1.

Precision: the share of drawn images that a real one could stand for, which is fidelity.  Recall:
the share of real images that the draws could bring, which is variety.  Both fall with fewer
images: compare only sets of equal size.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.metrics.neighbours import CHUNK, radii, squared_distances

Features = Float[Tensor, "_ features"]
K = 3  # the paper's


def covered(asked: Features, by: Features, k: int = K) -> Bool[Tensor, " _"]:
    """Whether each of ``asked`` lies in a ball around some row of ``by``.

    The ball around a row reaches to its ``k``-th nearest neighbour within ``by``.
    """
    reach = radii(by, k).square()
    inside = [(squared_distances(part, by) <= reach).any(1) for part in asked.split(CHUNK)]
    return torch.cat(inside)


def precision(drawn: Features, real: Features, k: int = K) -> Bool[Tensor, " _"]:
    """Which of the drawn images lie among the real ones."""
    return covered(drawn, real, k)


def recall(drawn: Features, real: Features, k: int = K) -> Bool[Tensor, " _"]:
    """Which of the real images lie among the drawn ones."""
    return covered(real, drawn, k)
