"""Shares by condition: who sees the label, and what that leaves of an attack's success."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.stats.estimates import MetricEntry
from scoreag.study.intervals import (
    ItemWeights,
    Linearized,
    Ratings,
    Statistic,
    Weights,
    item_means,
    linearize,
    missing_entry,
    plain_entry,
    ratio_entry,
    share_entry,
)

Mask = Bool[Tensor, " items"]
K_OF_K = (1, 3, 5)  # all k people of k see the label


def mean_score(ratings: Ratings, mask: Mask) -> Statistic:
    """The mean score of the answers on the items of the mask."""
    answers = ratings.counts * mask

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        share = answers * items
        return (share * item_means(ratings, weights)).sum() / share.sum()

    return statistic


def estimate_share(ratings: Ratings, mask: Mask) -> MetricEntry:
    """The share of answers on the items of the mask that have the score 1."""
    chosen = ratings.select_items(mask)
    if not len(chosen.person):
        return missing_entry("no answers")
    return share_entry(chosen, linearize(chosen, mean_score(chosen, mask)))


def estimate_difference(ratings: Ratings, mask: Mask, base: Mask) -> MetricEntry:
    """The share on the items of ``mask``, less that on those of ``base``."""
    chosen = ratings.select_items(mask | base)
    if not (bool(mask[chosen.item].any()) and bool(base[chosen.item].any())):
        return missing_entry("no answers")
    one, other = mean_score(chosen, mask), mean_score(chosen, base)
    found = linearize(chosen, lambda w, v: one(w, v) - other(w, v))
    return plain_entry(chosen, found, limit=1.0, unit="share")


def share_of_sets(ratings: Ratings, k: int) -> Float[Tensor, " items"]:
    """By item of n answers, y of them 1, the share of sets of k that are all 1: C(y,k) / C(n,k)."""
    y = torch.zeros(ratings.n_items).double().index_add(0, ratings.item, ratings.score)
    counts = zip(y.tolist(), ratings.counts.tolist(), strict=True)
    sets = [(math.comb(int(seen), k), math.comb(int(n), k)) for seen, n in counts]
    return torch.tensor([part / max(whole, 1) for part, whole in sets], dtype=torch.float64)


def all_of_k(
    ratings: Ratings, mask: Mask, k: int, value: Float[Tensor, " items"], plug_in: bool = False
) -> Statistic:
    """The mean over items of ``value`` times P(k people of those asked all see the label).

    Items with fewer than k answers are left out.

    Args:
        plug_in: the same value as a function of the items' shares p, with the slope ``k p^(k-1)``
            of ``p^k``, on average over the items.
    """
    usable, exact = mask & (ratings.counts >= k), share_of_sets(ratings, k)
    fewer = share_of_sets(ratings, k - 1)
    slope = k * float((usable * value * fewer).sum() / (usable * value).sum().clamp(min=1e-12))

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        share = usable * items
        found = (share * value * exact).sum() / share.sum()
        if not plug_in:
            return found
        linear = (share * value * item_means(ratings, weights)).sum() / share.sum()
        return found + slope * (linear - linear.detach())

    return statistic


def usable_rules(ratings: Ratings, masks: Sequence[Mask]) -> list[int]:
    """The k for which at least nine in ten items of each mask have k answers."""
    enough = {k: (ratings.counts >= k).double() for k in K_OF_K}
    return [k for k, known in enough.items() if all(float(known[m].mean()) >= 0.9 for m in masks)]


def estimate_validity(
    ratings: Ratings, mask: Mask, base: Mask, fooled: Float[Tensor, " items"], k: int
) -> dict[str, MetricEntry]:
    """Success among images in which k of k people see the label, and the same over its ceiling.

    Args:
        base: the untouched images, on which the same rule is the ceiling.
        fooled: 1 where the classifier was.
    """
    chosen, untouched = ratings.select_items(mask), ratings.select_items(base)
    both, ones = ratings.select_items(mask | base), torch.ones_like(fooled)

    def success_rate(of: Ratings, plug_in: bool) -> Statistic:
        return all_of_k(of, mask, k, fooled, plug_in)

    def ceiling_rate(of: Ratings, plug_in: bool) -> Statistic:
        return all_of_k(of, base, k, ones, plug_in)

    def ratio_rate(plug_in: bool) -> Statistic:
        top, bottom = success_rate(both, plug_in), ceiling_rate(both, plug_in)
        return lambda w, v: top(w, v) / bottom(w, v)

    success = linearize(chosen, success_rate(chosen, False), success_rate(chosen, True))
    ceiling = linearize(untouched, ceiling_rate(untouched, False), ceiling_rate(untouched, True))
    found = {"seen_success": share_entry(chosen, success)}
    found["ceiling"] = share_entry(untouched, ceiling)
    if ceiling.value <= 0:
        why = f"the label of no untouched image is seen by {k} of {k}"
        return {**found, "validity_corrected_success": missing_entry(why)}
    ratio = linearize(both, ratio_rate(False), ratio_rate(True))
    entry = ratio_entry(both, ratio) | {"unit": "share"}
    if success.value == 0 and "high" in found["seen_success"]:
        high = found["seen_success"]["high"] / ceiling.value
        entry |= {"low": 0.0, "high": round(high, 6), "interval": "95 %, that of the success"}
    return {**found, "validity_corrected_success": entry}


def corrected_probit(ratings: Ratings, mask: Mask) -> Statistic:
    """``z`` of the share, after half an answer was added to both (Hautus 1995)."""
    share, n = mean_score(ratings, mask), int(mask[ratings.item].sum())
    return lambda w, v: torch.special.ndtri((share(w, v) * n + 0.5) / (n + 1))


def estimate_d_prime(ratings: Ratings, mask: Mask, base: Mask) -> MetricEntry:
    """``z(share of "real" on real images) - z(share of "real" on those of the mask)``."""
    chosen = ratings.select_items(mask | base)
    if not (bool(mask[chosen.item].any()) and bool(base[chosen.item].any())):
        return missing_entry("no answers")
    hits, false_alarms = corrected_probit(chosen, base), corrected_probit(chosen, mask)
    found: Linearized = linearize(chosen, lambda w, v: hits(w, v) - false_alarms(w, v))
    return plain_entry(chosen, found)
