"""How well one number orders images as another does: ranks, Spearman's correlation, AUC."""

from jaxtyping import Bool, Float
from torch import Tensor

Values = Float[Tensor, " count"]


def average_ranks(values: Values) -> Float[Tensor, " count"]:
    """The ranks from 1 on; equal values share the mean of theirs.

    >>> import torch
    >>> average_ranks(torch.tensor([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() - 1) / 2)[inverse]


def spearman(a: Values, b: Values) -> float:
    """Spearman's rank correlation; 0 where all values of one are alike."""
    x, y = (ranks - ranks.mean() for ranks in (average_ranks(a), average_ranks(b)))
    scale = float((x.square().sum() * y.square().sum()).sqrt())
    return float((x * y).sum()) / scale if scale else 0.0


def auc(scores: Values, positive: Bool[Tensor, " count"]) -> float:
    """The probability that a positive has the higher score, ties count half; NaN without both."""
    n_positive = int(positive.sum())
    n_pairs = n_positive * (len(positive) - n_positive)
    total = float(average_ranks(scores)[positive].sum())
    return (total - n_positive * (n_positive + 1) / 2) / n_pairs if n_pairs else float("nan")
