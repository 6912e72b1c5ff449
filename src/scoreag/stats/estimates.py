"""Metrics as cards and summaries hold them: a value with its denominator and its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import bdtr, ndtr, stdtrit
from torch import Tensor

from scoreag.core.rng import derive_key
from scoreag.stats.proportion import Z_975, Proportion, wilson_interval

MetricEntry: TypeAlias = dict[str, Any]  # value, of, total, and low, high, interval

CONFIDENCE_LEVEL = 0.95
TOO_SMALL = "n too small"  # stands in place of an interval
N_RESAMPLES = 1000
RESAMPLE_CHUNK = 50  # draws that are held in memory
MIN_VALUES = 10  # values, below which resampling them tells too little
NO_VARIATION = "no interval: all values are alike"  # resampling them knows of no other


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    std_error: float


class QuantileRanks(NamedTuple):
    """Two ranks, counted from 1, and how often the truth lies between the values there."""

    low: int
    high: int
    coverage: float


def _entry(value: float, population: str, total: int, **rest: Any) -> MetricEntry:
    """Numbers with seven digits: more than any of these means, few enough to read."""
    entry = {"value": value, "of": population, "total": total, **rest}
    return {n: float(f"{x:.7g}") if isinstance(x, float) else x for n, x in entry.items()}


def from_proportion(proportion: Proportion) -> MetricEntry:
    """A share, with Wilson's interval."""
    return {**proportion.to_dict(), "interval": "Wilson, 95 %"}


def from_fractions(values: Float[Tensor, " count"], population: str) -> MetricEntry:
    """The mean of one share in [0, 1] an image, with Wilson's interval, as if images were coins.

    It is no narrower than it must be: of all that lie in [0, 1] and have the mean p, a coin varies
    most, by ``p (1 - p)``.
    """
    mean = float(values.double().mean())
    low, high = wilson_interval(mean, len(values))
    method = "Wilson, 95 %, of a mean of shares"
    return _entry(mean, population, len(values), low=low, high=high, interval=method)


def from_estimate(estimate: Estimate, population: str, total: int, method: str) -> MetricEntry:
    """``value -+ 1.96 error``."""
    value, error = estimate
    reach = Z_975 * error
    return _entry(
        value, population, total, error=error, low=value - reach, high=value + reach,
        interval=f"95 %, normal; standard error by {method}",
    )  # fmt: skip


def estimate_mean(values: Float[Tensor, " count"], population: str) -> MetricEntry:
    """The mean, with its standard error ``sd / n^(1/2)`` and Student's interval; of one value none.

    The interval is exact for normal values, however few they are.
    """
    n, mean = len(values), float(values.mean())
    error = float(values.std()) / math.sqrt(n) if n > 1 else math.inf
    if not math.isfinite(error):
        return _entry(mean, population, n, interval=TOO_SMALL)
    reach = float(stdtrit(n - 1, 0.975)) * error
    return _entry(
        mean, population, n, error=error, low=mean - reach, high=mean + reach,
        interval="95 %, Student; standard error by the spread over images",
    )  # fmt: skip


def estimate_quantile(values: Float[Tensor, " count"], q: float, population: str) -> MetricEntry:
    """The value that a share ``q`` of all lie below, with its interval from order statistics."""
    ordered: list[float] = values.double().sort().values.tolist()
    value = float(values.quantile(q))
    return _entry(value, population, len(values), **quantile_interval(ordered, q))


def quantile_interval(ordered: Sequence[float], q: float = 0.5) -> dict[str, float | str]:
    """The interval of a quantile of sorted values, as entries have it, or why there is none."""
    ranks = find_quantile_ranks(len(ordered), q)
    if ranks is None:
        return {"interval": TOO_SMALL}
    return {
        "low": ordered[ranks.low - 1],
        "high": ordered[ranks.high - 1],
        "coverage": round(ranks.coverage, 4),
        "interval": f"{100 * ranks.coverage:.1f} %, order statistics",
    }


def find_quantile_ranks(n: int, q: float = 0.5) -> QuantileRanks | None:
    """The ranks between which a quantile lies with a probability of 95 % or more; None of too few.

    The number B of n values below the quantile is binomial (n, q), whatever the distribution,
    so ``[x_(low), x_(high)]`` holds it with the probability ``P(low <= B < high)``, or more where
    values are tied.  Each side may fail with at most 2.5 %; David and Nagaraja (2003), 7.1.
    """
    tail = (1 - CONFIDENCE_LEVEL) / 2
    below = np.asarray(bdtr(np.arange(n), n, q))  # P(B <= k), k = 0..n-1
    low, high = int((below <= tail).sum()), 1 + int((1 - below > tail).sum())
    if low < 1 or high > n:
        return None
    return QuantileRanks(low, high, float(below[high - 1] - below[low - 1]))


def bootstrap_ci(
    values: Float[Tensor, " count"], population: str, n_resamples: int = N_RESAMPLES
) -> MetricEntry:
    """The mean of ``values``, and the middle of the means of resampled values; Efron (1979).

    The percentiles are expanded (Hesterberg 2015): ``Phi(-(n / (n - 1))^(1/2) t)`` in place of
    2.5 %, t the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom; the plain
    ones hold the mean of 10 normal values in 90 % of cases only.  The resampling depends on n
    alone, so metrics of the same images are resampled alike.  No interval from fewer than 10
    values, nor from equal ones.
    """
    values, n = values.double(), len(values)
    mean = float(values.mean())
    if n < MIN_VALUES:
        return _entry(mean, population, n, interval=TOO_SMALL)
    seed = int.from_bytes(derive_key("bootstrap", n), "little")
    source = np.random.Generator(np.random.Philox(seed))
    means = []
    for start in range(0, n_resamples, RESAMPLE_CHUNK):
        size = (min(RESAMPLE_CHUNK, n_resamples - start), n)
        means.append(values[torch.from_numpy(source.integers(n, size=size))].mean(1))
    tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.cat(means).quantile(ends).tolist()
    method = f"95 %, bootstrap of {n_resamples} draws"
    entry = _entry(mean, population, n, low=low, high=high, interval=method)
    if entry["low"] == entry["high"]:
        return _entry(mean, population, n, interval=NO_VARIATION)
    return entry


def paired_difference(
    a: Bool[Tensor, " count"], b: Bool[Tensor, " other"], population: str
) -> MetricEntry:
    """How much more often ``a`` is true than ``b``, of the same images; Bonett and Price (2012).

    Only images at which the two differ tell.  With ``p = (n_10 + 1) / (n + 2)``, and q of n_01, the
    interval is ``p - q -+ z ((p + q - (p - q)^2) / (n + 2))^(1/2)``: it has a width also where the
    two agree on every image.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are no pairs")
    n, more, less = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p, q = (more + 1) / (n + 2), (less + 1) / (n + 2)
    reach = Z_975 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return _entry(
        (more - less) / n, population, n, low=max(-1.0, p - q - reach),
        high=min(1.0, p - q + reach), interval="95 %, Bonett and Price, paired",
    )  # fmt: skip


def format_entry(entry: MetricEntry) -> str:
    """A metric in words, with its denominator and its interval."""
    if "count" in entry:
        return str(Proportion(entry["count"], entry["total"], entry["of"]))
    reason = missing_interval_reason(entry)
    interval = f"{entry['low']:.4g} to {entry['high']:.4g}" if "low" in entry else reason
    return (
        f"{entry['value']:.4g}{f' ({interval})' * bool(interval)}, {entry['total']} {entry['of']}"
    )


def missing_interval_reason(entry: Mapping[str, Any]) -> str:
    """Why an entry has no interval, in words; "" where it has one, or nobody said why."""
    return "" if "low" in entry else str(entry.get("interval", ""))
