"""How well a number that a network gives stands for people: order, detection and calibration."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.stats.estimates import MetricEntry
from scoreag.stats.logistic import fit_line
from scoreag.stats.ranks import weighted_auc, weighted_spearman
from scoreag.study.intervals import (
    ItemWeights,
    Ratings,
    Statistic,
    Weights,
    item_means,
    linearize,
    missing_entry,
    plain_entry,
    transformed_entry,
)

Values = Float[Tensor, " items"]

MIN_ANSWERS = 3  # of an item whose share is compared with a proxy
MIN_ITEMS = 10
MIN_SIDE = 5  # images on each side of 80 %
FEW_SEE = 0.8  # the label is lost if fewer see it
CLIP = 1e-3  # a probability is clipped before its logit
DISTANCES = ("lpips", "l2", "linf", "distance")  # words of proxies that rise as an image changes


def is_distance(name: str) -> bool:
    return any(word in name.lower().split("_") for word in DISTANCES)


def human_shares(ratings: Ratings) -> tuple[Values, Values]:
    """By item, the mean score and the number of answers."""
    return item_means(ratings, torch.ones_like(ratings.score)), ratings.counts


def spearman(values: Values, shares: Values, chosen: Tensor) -> Statistic:
    """The correlation of the ranks over the chosen items; ties share their mean rank."""

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        return weighted_spearman(values[chosen], shares[chosen], items[chosen])

    return statistic


def area_under_curve(scores: Values, positive: Tensor, chosen: Tensor) -> Statistic:
    """P(a positive item has the larger score), ties counted half; Mann and Whitney."""

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        return weighted_auc(scores[chosen], positive[chosen], items[chosen])

    return statistic


def calibration_slope(ratings: Ratings, values: Values) -> Statistic | None:
    """The slope of the answers on the proxy's logit; 1 is calibrated, below 1 is overconfident.

    Cox (1958).  The statistic is one Newton step from the fit, whose derivatives are the fit's.
    """
    p = values.clamp(CLIP, 1 - CLIP)
    x = torch.stack([torch.ones_like(p), torch.logit(p)], 1)
    shares, counts = human_shares(ratings)
    rated = counts > 0
    logits = x[rated, 1]
    if not len(logits) or float(logits.max()) == float(logits.min()):
        return None
    if (line := fit_line(logits, shares[rated], counts[rated])) is None:
        return None
    fitted = torch.tensor([line[1], line[0]], dtype=torch.float64)
    q = torch.sigmoid(x @ fitted)
    inverse = torch.linalg.inv((x.T * (ratings.counts * q * (1 - q))) @ x)

    def statistic(weights: Weights, items: ItemWeights) -> Float[Tensor, ""]:
        score = (ratings.counts * items * (item_means(ratings, weights) - q)) @ x
        return (fitted + inverse @ score)[1]

    return statistic


def measure_proxy(ratings: Ratings, name: str, values: Values) -> dict[str, MetricEntry]:
    """A proxy against people, over the items that have it and three answers or more.

    Args:
        values: NaN where an item has none.
    """
    shares, counts = human_shares(ratings)
    usable = ~values.isnan() & (counts >= MIN_ANSWERS)
    chosen = usable.nonzero()[:, 0]
    if len(chosen) < MIN_ITEMS:
        why = f"fewer than {MIN_ITEMS} images have the proxy and {MIN_ANSWERS} answers"
        return {"spearman": missing_entry(why, len(chosen))}
    kept = ratings.select_items(usable)
    found = {"spearman": _rank_correlation(kept, values, shares, chosen)}
    found["auc_below_80"] = _detection(kept, name, values, shares, chosen)
    inside = values[chosen]
    if not is_distance(name) and float(inside.min()) >= 0 and float(inside.max()) <= 1:
        slope = calibration_slope(kept, values.nan_to_num(0.5))
        found["calibration_slope"] = (
            missing_entry("the fit has no maximum", len(chosen))
            if slope is None
            else plain_entry(kept, linearize(kept, slope))
        )
    return {key: _of_images(entry, len(chosen)) for key, entry in found.items()}


def _rank_correlation(
    ratings: Ratings, values: Values, shares: Values, chosen: Tensor
) -> MetricEntry:
    if len(values[chosen].unique()) < 2 or len(shares[chosen].unique()) < 2:
        return missing_entry("all values are alike", len(chosen))
    found = linearize(ratings, spearman(values, shares, chosen))
    r = found.value
    if abs(r) > 1 - 1e-9:
        return plain_entry(ratings, found, limit=1.0)
    return transformed_entry(ratings, found, math.atanh, math.tanh, 1 / (1 - r * r))


def _detection(
    ratings: Ratings, name: str, values: Values, shares: Values, chosen: Tensor
) -> MetricEntry:
    """The area under the curve for "fewer than 80 % see the label", by a small proxy."""
    below = shares < FEW_SEE - 1e-9
    count = int(below[chosen].sum())
    fewer = min(count, len(chosen) - count)
    if fewer < MIN_SIDE:
        why = f"fewer than {MIN_SIDE} images are below 80 %, or above"
        return missing_entry(why, len(chosen)) | {"below": count}
    scores = values if is_distance(name) else -values
    found = linearize(ratings, area_under_curve(scores, below, chosen))
    found = replace(found, df=min(found.df, float(fewer - 1)))
    a = found.value
    if not 0 < a < 1:
        return plain_entry(ratings, found, limit=1.0) | {"below": count}
    entry = transformed_entry(
        ratings, found, lambda p: math.log(p / (1 - p)), lambda u: 1 / (1 + math.exp(-u)),
        1 / (a * (1 - a)),
    )  # fmt: skip
    return entry | {"below": count}


def _of_images(entry: MetricEntry, total: int) -> MetricEntry:
    return entry | {"of": "images", "total": total}
