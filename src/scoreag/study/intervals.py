"""Intervals over people and images: both are samples of those who could have been asked.

A statistic is a smooth function of a weight for each answer and one for each item, all 1.  Its
derivatives are the influence of an answer and of an image (Hampel 1974).  Over two crossed samples
the variance is (Cameron, Gelbach and Miller 2011; Owen 2007)

    V = sum over images (influence of the image)^2
      + sum over people, over pairs of their answers, the product of the influences of both.

The influence of an answer is that beside the n answers on the same image, whose mean it is part of,
so products of them are too small: by ``(n - d)^2 / (n (n - 1))`` where d answers enter together, 1
for a share and 2 for pairs.  A bootstrap that resamples people and images at once counts the noise
of single answers three times.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

from scoreag.stats.estimates import NO_VARIATION, MetricEntry
from scoreag.stats.proportion import Z_975, wilson_interval

Weights: TypeAlias = Float[Tensor, " answers"]
ItemWeights: TypeAlias = Float[Tensor, " items"]
Table: TypeAlias = Float[Tensor, "items categories"]
Statistic: TypeAlias = Callable[[Weights, ItemWeights], Float[Tensor, ""]]  # of answers, of items

METHOD = "95 %, over people and images"
FEW = "no interval: fewer than two people or images"


@dataclass(frozen=True)
class Ratings:
    """Answers, each of a person on an item; items of one source are versions of one image.

    Args:
        category: of the answer: a class, or the last one for "cannot tell".
        score: of the answer, in [0, 1]: whether the label was seen.
    """

    person: Int[Tensor, " answers"]
    item: Int[Tensor, " answers"]
    category: Int[Tensor, " answers"]
    score: Float[Tensor, " answers"]
    source: Int[Tensor, " items"]
    n_people: int
    n_categories: int

    def select_items(self, mask: Tensor) -> "Ratings":
        """The answers on the items of a mask; items keep their numbers."""
        rows = mask[self.item]
        parts = {
            name: getattr(self, name)[rows] for name in ("person", "item", "category", "score")
        }
        return replace(self, **parts)

    @property
    def n_items(self) -> int:
        return len(self.source)

    @property
    def counts(self) -> Float[Tensor, " items"]:
        """The number of answers on each item."""
        return torch.bincount(self.item, minlength=self.n_items).double()

    @property
    def size(self) -> str:
        """Of what a statistic is: for its denominator."""
        return f"answers of {len(self.person.unique())} people"


@dataclass(frozen=True)
class Linearized:
    """A statistic with its variance, and the degrees of freedom of that."""

    value: float
    variance: float
    df: float

    @property
    def reach(self) -> float:
        """Half the length of Student's interval; NaN without two people and two images."""
        if self.df < 1:
            return math.nan
        return float(stdtrit(self.df, 0.975)) * math.sqrt(self.variance)


def linearize(
    ratings: Ratings, statistic: Statistic, plug_in: Statistic | None = None, degree: int = 1
) -> Linearized:
    """The value of a statistic, and its variance over people and images.

    Args:
        plug_in: the statistic as a function of the shares of answers of each item, from which the
            influence of answers is taken; by default the statistic.
        degree: how many answers enter ``plug_in`` together.
    """
    answers = torch.ones(len(ratings.person), dtype=torch.float64, requires_grad=True)
    sources = torch.ones(int(ratings.source.max()) + 1, dtype=torch.float64, requires_grad=True)
    value = statistic(answers, sources[ratings.source])
    over_images, images = _images_part(ratings, value, sources)
    smooth = value if plug_in is None else plug_in(answers, sources[ratings.source])
    over_people, noise = _people_part(ratings, smooth, answers, degree)
    people = len(ratings.person.unique())
    variance = over_images + max(over_people - noise, 0.0)
    if min(people, images) < 2 or variance <= 0:
        return Linearized(float(value.detach()), variance, float(min(people, images) - 1))
    # Satterthwaite (1946): each part has the relative variance 2 / (number - 1)
    spread = over_images**2 / (images - 1) + over_people**2 / (people - 1)
    return Linearized(float(value.detach()), variance, max(1.0, variance**2 / spread))


def _images_part(ratings: Ratings, value: Tensor, sources: Tensor) -> tuple[float, int]:
    """The sum of squares over images, and their number."""
    (by_source,) = torch.autograd.grad(value, sources, retain_graph=True)
    images = len(ratings.source[ratings.item.unique()].unique())
    return float((by_source**2).sum()) * images / max(images - 1, 1), images


def _people_part(
    ratings: Ratings, value: Tensor, answers: Tensor, degree: int
) -> tuple[float, float]:
    """The sums of squares of the influences of people, and of single answers."""
    (by_answer,) = torch.autograd.grad(value, answers, allow_unused=True)
    if by_answer is None:
        return 0.0, 0.0
    n = ratings.counts[ratings.item]
    factor = (n * (n - 1)).sqrt() / (n - degree).clamp(min=1)
    by_answer = torch.where(n > degree, factor * by_answer, 0.0)
    by_person = torch.zeros(ratings.n_people, dtype=torch.float64)
    by_person.index_add_(0, ratings.person, by_answer)
    return float((by_person**2).sum()), float((by_answer**2).sum())


def count_answers(ratings: Ratings, weights: Weights | None = None) -> Table:
    """By item and category, the number of answers, or the sum of their weights."""
    cells = ratings.n_items * ratings.n_categories
    index = ratings.item * ratings.n_categories + ratings.category
    given = torch.ones_like(ratings.score) if weights is None else weights
    table = torch.zeros(cells, dtype=torch.float64).index_add(0, index, given)
    return table.view(ratings.n_items, ratings.n_categories)


def item_means(ratings: Ratings, weights: Weights) -> Float[Tensor, " items"]:
    """By item, the weighted mean score; 0 without answers."""
    zero = torch.zeros(ratings.n_items, dtype=torch.float64)
    total = zero.index_add(0, ratings.item, weights)
    means = zero.index_add(0, ratings.item, weights * ratings.score)
    return means / torch.where(total > 0, total, 1.0)


def share_entry(ratings: Ratings, found: Linearized, population: str = "") -> MetricEntry:
    """A share, with Wilson's interval at the effective number of answers.

    That number is ``p (1 - p) / V``, times ``(z / t)^2`` for few people or images (Korn and
    Graubard 1998); at 0 and 1 it is the number of people or of images, whichever is smaller.
    """
    p, total = found.value, len(ratings.person)
    entry = _entry(p, total, population or ratings.size, unit="share")
    if found.df < 1:
        return entry | {"interval": FEW}
    effective = float(min(len(ratings.person.unique()), len(ratings.item.unique())))
    if 0 < p < 1 and found.variance > 0:
        effective = min(p * (1 - p) / found.variance, total)
        effective *= (Z_975 / float(stdtrit(found.df, 0.975))) ** 2
    low, high = wilson_interval(min(max(p, 0.0), 1.0), max(effective, 1e-9))
    return entry | _ends(low, high, f"{METHOD}, Wilson")


def ratio_entry(ratings: Ratings, found: Linearized, flip: bool = False) -> MetricEntry:
    """A ratio above 0, with Student's interval of its logarithm.

    Args:
        flip: the statistic is the ratio, and the entry is 1 less it: a coefficient of agreement.
    """
    value = found.value
    entry = _entry(1 - value if flip else value, len(ratings.person), ratings.size)
    if found.df < 1 or not math.isfinite(value):
        return entry | {"interval": FEW}
    if value <= 0 or found.variance <= 0:
        return entry | {"interval": NO_VARIATION}
    factor = math.exp(found.reach / value)
    low, high = value / factor, value * factor
    if flip:
        low, high = 1 - high, 1 - low
    return entry | _ends(low, high, f"{METHOD}, of the logarithm")


def plain_entry(
    ratings: Ratings, found: Linearized, limit: float = math.inf, **rest: Any
) -> MetricEntry:
    """A value with Student's interval, in [-limit, limit]."""
    entry = _entry(found.value, len(ratings.person), ratings.size, **rest)
    if not math.isfinite(found.value):
        return entry | {"interval": NO_VARIATION}
    if found.df < 1 or found.variance <= 0:
        return entry | {"interval": FEW if found.df < 1 else NO_VARIATION}
    low, high = found.value - found.reach, found.value + found.reach
    return entry | _ends(max(low, -limit), min(high, limit), f"{METHOD}, Student")


def transformed_entry(
    ratings: Ratings,
    found: Linearized,
    forward: Callable[[float], float],
    back: Callable[[float], float],
    slope: float,
) -> MetricEntry:
    """A value with Student's interval of ``forward(value)``, whose derivative is ``slope``."""
    entry = _entry(found.value, len(ratings.person), ratings.size)
    if found.df < 1 or not math.isfinite(slope) or found.variance <= 0:
        return entry | {"interval": FEW if found.df < 1 else NO_VARIATION}
    center, reach = forward(found.value), slope * found.reach
    return entry | _ends(back(center - reach), back(center + reach), f"{METHOD}, transformed")


def missing_entry(why: str, total: int = 0) -> MetricEntry:
    """An entry without a value, and why."""
    return {"value": None, "of": "answers", "total": total, "interval": why}


def _entry(value: float, total: int, population: str, **rest: Any) -> MetricEntry:
    number = round(value, 6) if math.isfinite(value) else None
    return {"value": number, "of": population, "total": total, **rest}


def _ends(low: float, high: float, method: str) -> MetricEntry:
    return {"low": round(low, 6), "high": round(high, 6), "interval": method}
