"""The kernel distance between two sets of images, in features; Binkowski et al. (2018), section 4.

The squared maximum mean discrepancy under a cubic kernel, without the bias that the Fréchet
distance has: sets of different sizes may be compared, and two sets from one source give 0 on
average, so that single values fall below 0.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.stats.estimates import Estimate

Features = Float[Tensor, "_ features"]
CHUNK = 512  # rows of the kernel's matrix that are held at once


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
    within = (_kernel_sum(a, a) - _kernel_diagonal_sum(a)) / (n * (n - 1)) + (
        _kernel_sum(b, b) - _kernel_diagonal_sum(b)
    ) / (m * (m - 1))
    return float(within - 2 * _kernel_sum(a, b) / (n * m))


def kid_with_std_error(a: Features, b: Features, n_blocks: int = 20) -> Estimate:
    """``kernel_distance`` of all, and the standard error from disjoint blocks of both sets.

    Each block of ``1/blocks`` of the rows gives a value of its own; the error is that of their
    mean, ``sd / blocks^(1/2)``.  It is not below that of the value of all pairs.  Rows are dealt to
    the blocks in turn: put them in a random order before.
    """
    n_blocks = min(n_blocks, len(a) // 2, len(b) // 2)
    if n_blocks < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} images make no 2 blocks of 2; give at least 4 of each"
        )
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
