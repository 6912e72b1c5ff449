"""Proportions of images, with a named denominator and a Wilson 95 % interval."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from scipy.special import betaincinv
from torch import Tensor

from scoreag.core.types import Labels

Z_975 = 1.959963984540054  # the 97.5 % quantile of the standard normal


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total``, where ``of`` names the total: "images right before".

    >>> Proportion(5, 10, "images").to_dict()["low"]
    0.2366
    >>> str(Proportion(19, 20, "images"))
    '19 of 20 images (95 %, interval 76-99 %)'
    """

    count: int
    total: int
    population: str

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total:
            raise ValueError(
                f"a rate of {self.count} out of {self.total} {self.population}; "
                "the count must lie between 0 and the total"
            )

    @property
    def value(self) -> float:
        """``count / total`` in [0, 1]; NaN if the total is 0."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval; [0, 1] if the total is 0."""
        return wilson_interval(self.value, self.total) if self.total else (0.0, 1.0)

    def to_dict(self) -> dict[str, float | int | str | None]:
        """For JSON; numbers have four decimals, and ``value`` is null if the total is 0."""
        low, high = (round(end, 4) for end in self.interval)
        return {
            "value": round(self.value, 4) if self.total else None,
            "count": self.count,
            "of": self.population,
            "total": self.total,
            "low": low,
            "high": high,
        }

    def __str__(self) -> str:
        if not self.total:
            return f"0 of 0 {self.population}"
        low, high = (f"{100 * end:.0f}" for end in self.interval)
        share = f"{100 * self.value:.0f} %, interval {low}-{high} %"
        return f"{self.count} of {self.total} {self.population} ({share})"


def wilson_interval(value: float, n: int | float) -> tuple[float, float]:
    """Wilson (1927): the p with ``|value - p| <= z (p (1 - p) / n)^(1/2)``; n may be effective.

    ``(value + z^2/2n -+ z (value (1 - value)/n + z^2/4n^2)^(1/2)) / (1 + z^2/n)``.
    """
    center = value + Z_975**2 / (2 * n)
    half = Z_975 * math.sqrt(value * (1 - value) / n + (Z_975 / (2 * n)) ** 2)
    low, high = (center - half) / (1 + Z_975**2 / n), (center + half) / (1 + Z_975**2 / n)
    return (low if value > 0 else 0.0), (high if value < 1 else 1.0)


def compute_proportion(
    hits: Bool[Tensor, " batch"], population: str, mask: Bool[Tensor, " batch"] | None = None
) -> Proportion:
    """The proportion of true entries of ``hits``, counted only where ``mask`` is true."""
    counted = torch.ones_like(hits) if mask is None else mask
    return Proportion(int((hits & counted).sum()), int(counted.sum()), population)


def accuracy(predictions: Labels, labels: Labels, population: str = "images") -> Proportion:
    """The proportion of predictions that equal the label."""
    return compute_proportion(predictions == labels, population)


def clopper_pearson_lower(count: int, total: int, alpha: float) -> float:
    """The p for which ``count`` or more of ``total`` have probability alpha; 0 if count is 0.

    The true probability is below it with probability at most ``alpha``.
    """
    _validate_counts(count, total, alpha)
    return float(betaincinv(count, total - count + 1, alpha)) if count else 0.0


def clopper_pearson_upper(count: int, total: int, alpha: float) -> float:
    """The p for which ``count`` or fewer of ``total`` have probability alpha; 1 if count is total.

    The true probability is above it with probability at most ``alpha``.
    """
    _validate_counts(count, total, alpha)
    return 1.0 if count == total else float(betaincinv(count + 1, total - count, 1 - alpha))


def _validate_counts(count: int, total: int, alpha: float) -> None:
    if not (0 <= count <= total and total > 0):
        raise ValueError(f"{count} of {total}; expected a count from 0 to a total above 0")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; expected a probability between 0 and 1, e.g. 0.001")
