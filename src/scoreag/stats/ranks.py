"""How well one number orders images as another does: ranks, Spearman's correlation, AUC.

The weighted forms count an image as often as its weight says, and have a gradient in the weights.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Values = Float[Tensor, " count"]
Weights = Float[Tensor, " count"]
Scalar = Float[Tensor, ""]


def average_ranks(values: Values, weights: Weights | None = None) -> Float[Tensor, " count"]:
    """The ranks from 1 on; equal values share the mean of theirs.

    >>> import torch
    >>> average_ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    counts = torch.ones(len(values), dtype=torch.float64) if weights is None else weights.double()
    distinct, inverse = values.unique(return_inverse=True)
    sums = torch.zeros(len(distinct), dtype=torch.float64).index_add(0, inverse, counts)
    ends = sums.cumsum(0)
    return (ends - (sums - 1) / 2)[inverse]


def spearman(a: Values, b: Values) -> float:
    """Spearman's rank correlation; 0 where all values of one are alike."""
    found = weighted_spearman(a, b, torch.ones(len(a), dtype=torch.float64))
    return 0.0 if bool(found.isnan()) else float(found)


def weighted_spearman(a: Values, b: Values, weights: Weights) -> Scalar:
    """Spearman's rank correlation of weighted images; NaN where all values of one are alike."""
    p = weights.double()
    ranks = [average_ranks(values, p) for values in (a, b)]
    x, y = (one - (p * one).sum() / p.sum() for one in ranks)
    return (p * x * y).sum() / ((p * x.square()).sum() * (p * y.square()).sum()).sqrt()


def auc(scores: Values, positive: Bool[Tensor, " count"]) -> float:
    """The probability that a positive has the higher score, ties count half; NaN without both."""
    return float(weighted_auc(scores, positive, torch.ones(len(scores), dtype=torch.float64)))


def weighted_auc(scores: Values, positive: Bool[Tensor, " count"], weights: Weights) -> Scalar:
    """The same of weighted images; Mann and Whitney."""
    p = weights.double()
    ranks, yes, no = average_ranks(scores, p), p[positive], p[~positive].sum()
    total = (yes * (ranks[positive] - 0.5)).sum()
    return (total - yes.sum().square() / 2) / (yes.sum() * no)
