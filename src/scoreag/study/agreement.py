"""Agreement beyond chance: Krippendorff's alpha and Gwet's AC1, for categories and missing answers.

Krippendorff (2011), "Computing Krippendorff's alpha-reliability"; Gwet (2008), "Computing
inter-rater reliability and its variance in the presence of high agreement".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.stats.estimates import MetricEntry
from scoreag.study.intervals import (
    ItemWeights,
    Ratings,
    Statistic,
    Table,
    Weights,
    count_answers,
    linearize,
    missing_entry,
    ratio_entry,
)


def answer_shares(ratings: Ratings, weights: Weights) -> Table:
    """By item, the weighted share of each category."""
    table = count_answers(ratings, weights)
    total = table.sum(1, keepdim=True)
    return table / torch.where(total > 0, total, 1.0)


def equal_pairs(ratings: Ratings) -> Float[Tensor, " items"]:
    """By item, the share of pairs of different people whose answers are equal; 0 without pairs."""
    table = count_answers(ratings)
    n = table.sum(1)
    return (table * (table - 1)).sum(1) / (n * (n - 1)).clamp(min=1)


def krippendorff_ratio(ratings: Ratings, plug_in: bool = False) -> Statistic:
    """``1 - alpha``: observed over expected disagreement.

    With n answers on items of two or more, of which n_c are category c,

        alpha = 1 - (n - 1) (1 - sum_c o_cc / n) / (n - sum_c n_c^2 / n),

    where an item of m answers, m_c of them c, adds ``m_c (m_c - 1) / (m - 1)`` to o_cc.

    Args:
        plug_in: pairs of an answer with itself count, too.
    """
    n = torch.where(ratings.counts > 1, ratings.counts, 0.0)
    total, pairs = float(n.sum()), equal_pairs(ratings)

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        p, size = answer_shares(ratings, weights), n * items
        equal = (size * ((p**2).sum(1) if plug_in else pairs)).sum() / size.sum()
        expected = 1 - (((size[:, None] * p).sum(0) / size.sum()) ** 2).sum()
        return (total - 1) / total * (1 - equal) / expected

    return statistic


def gwet_ratio(ratings: Ratings, plug_in: bool = False) -> Statistic:
    """``1 - AC1``: ``(1 - p_a) / (1 - p_e)``, ``p_e = sum_c p_c (1 - p_c) / (categories - 1)``.

    Args:
        plug_in: pairs of an answer with itself count, too.
    """
    paired, rated = (ratings.counts > 1).double(), (ratings.counts > 0).double()
    pairs = equal_pairs(ratings)

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        p, of_pairs, of_all = answer_shares(ratings, weights), paired * items, rated * items
        equal = (of_pairs * ((p**2).sum(1) if plug_in else pairs)).sum() / of_pairs.sum()
        marginals = (of_all[:, None] * p).sum(0) / of_all.sum()
        chance = (marginals * (1 - marginals)).sum() / (ratings.n_categories - 1)
        return (1 - equal) / (1 - chance)

    return statistic


def measure_agreement(ratings: Ratings) -> dict[str, MetricEntry]:
    """Both coefficients with their intervals; "cannot tell" is a category of its own."""
    if not bool((ratings.counts > 1).any()):
        why = "no image has two answers"
        return dict.fromkeys(("krippendorff_alpha", "gwet_ac1"), missing_entry(why))
    statistics = {"krippendorff_alpha": krippendorff_ratio, "gwet_ac1": gwet_ratio}
    found = {}
    for name, ratio in statistics.items():
        linear = linearize(ratings, ratio(ratings), ratio(ratings, plug_in=True), degree=2)
        found[name] = ratio_entry(ratings, linear, flip=True)
    if len(ratings.category[(ratings.counts > 1)[ratings.item]].unique()) < 2:
        why = "alpha is not defined: all answers are alike"
        found["krippendorff_alpha"] = missing_entry(why, len(ratings.item))
    return found
