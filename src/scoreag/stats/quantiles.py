"""Medians and other quantiles, with intervals of exact coverage from order statistics."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr

CONFIDENCE_LEVEL = 0.95
TOO_SMALL = "n too small"  # stands in place of an interval


class QuantileRanks(NamedTuple):
    """Two ranks, counted from 1, and how often the truth lies between the values there."""

    low: int
    high: int
    coverage: float


def find_quantile_ranks(n: int, q: float = 0.5) -> QuantileRanks | None:
    """The ranks between which a quantile lies with a probability of 95 % or more; None of too few.

    The number B of n values below the quantile is binomial (n, share), whatever the distribution,
    so ``[x_(low), x_(high)]`` holds it with the probability ``P(low <= B < high)``, or more where
    values are tied.  Each side may fail with at most 2.5 %; David and Nagaraja (2003), 7.1.
    """
    tail = (1 - CONFIDENCE_LEVEL) / 2
    below = np.asarray(bdtr(np.arange(n), n, q))  # P(B <= k), k = 0..n-1
    low, high = int((below <= tail).sum()), 1 + int((1 - below > tail).sum())
    if low < 1 or high > n:
        return None
    return QuantileRanks(low, high, float(below[high - 1] - below[low - 1]))


def quantile_interval(ordered: Sequence[float], q: float = 0.5) -> dict[str, float | str]:
    """The interval of a quantile of sorted values, as entries have it, or why there is none."""
    found = find_quantile_ranks(len(ordered), q)
    if found is None:
        return {"interval": TOO_SMALL}
    return {
        "low": ordered[found.low - 1],
        "high": ordered[found.high - 1],
        "coverage": round(found.coverage, 4),
        "interval": f"{100 * found.coverage:.1f} %, order statistics",
    }
