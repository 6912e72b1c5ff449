"""Metrics for cards and summaries: a value with its denominator and its interval."""

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
TOO_SMALL = "n too small"  # in place of an interval
N_RESAMPLES = 1000
RESAMPLE_CHUNK = 50  # resamples in memory
MIN_VALUES = 10  # fewer values are too few to resample
NO_VARIATION = "no interval: all values are alike"  # resampling equal values has no spread


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    std_error: float


class QuantileRanks(NamedTuple):
    """Two ranks, counted from 1, and the probability that the quantile is between them."""

    low: int
    high: int
    coverage: float


def _entry(value: float, population: str, total: int, **rest: Any) -> MetricEntry:
    """An entry, with its numbers rounded to seven digits."""
    entry = {"value": value, "of": population, "total": total, **rest}
    return {n: float(f"{x:.7g}") if isinstance(x, float) else x for n, x in entry.items()}


def from_proportion(proportion: Proportion) -> MetricEntry:
    """A proportion with Wilson's interval."""
    return {**proportion.to_dict(), "interval": "Wilson, 95 %"}


def from_fractions(values: Float[Tensor, " count"], population: str) -> MetricEntry:
    """The mean of one fraction in [0, 1] per image, with Wilson's interval.

    The interval is conservative: among distributions on [0, 1] with mean p, the Bernoulli has the
    largest variance, ``p (1 - p)``.
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
    """The mean, with its standard error ``sd / n^(1/2)`` and Student's interval.

    The interval is exact for normal values; one value has none.
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
    """The ``q``-quantile, with its interval from order statistics."""
    ordered: list[float] = values.double().sort().values.tolist()
    value = float(values.quantile(q))
    return _entry(value, population, len(values), **quantile_interval(ordered, q))


def quantile_interval(ordered: Sequence[float], q: float = 0.5) -> dict[str, float | str]:
    """The interval of a quantile of sorted values, as part of an entry, or why it has none."""
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
    """The ranks that contain a quantile with a probability of 95 % or more; None if n is too small.

    The number B of n values below the quantile is binomial (n, q), whatever the distribution,
    so ``[x_(low), x_(high)]`` holds it with probability ``P(low <= B < high)``, or more if
    values are tied.  Each side fails with at most 2.5 %; David and Nagaraja (2003), 7.1.
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
    """The mean of ``values``, with the bootstrap interval of Efron (1979).

    The percentiles are expanded (Hesterberg 2015): ``Phi(-(n / (n - 1))^(1/2) t)`` in place of
    2.5 %, t the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom; the plain
    ones contain the mean of 10 normal values in only 90 % of cases.  The resampling depends only
    on n, so that metrics of the same images are resampled alike.  Fewer than 10 values, or equal
    ones, have no interval.
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
    """The difference of the rates of ``a`` and ``b`` on the same images; Bonett and Price (2012).

    Only images where the two differ count.  With ``p = (n_10 + 1) / (n + 2)``, and q of n_01, the
    interval is ``p - q -+ z ((p + q - (p - q)^2) / (n + 2))^(1/2)``; its width is above 0 even if
    the two agree on every image.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired")
    n, more, less = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p, q = (more + 1) / (n + 2), (less + 1) / (n + 2)
    reach = Z_975 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return _entry(
        (more - less) / n, population, n, low=max(-1.0, p - q - reach),
        high=min(1.0, p - q + reach), interval="95 %, Bonett and Price, paired",
    )  # fmt: skip


def format_entry(entry: MetricEntry) -> str:
    """A metric as text, with its denominator and its interval."""
    if "count" in entry:
        return str(Proportion(entry["count"], entry["total"], entry["of"]))
    reason = missing_interval_reason(entry)
    interval = f"{entry['low']:.4g} to {entry['high']:.4g}" if "low" in entry else reason
    return (
        f"{entry['value']:.4g}{f' ({interval})' * bool(interval)}, {entry['total']} {entry['of']}"
    )


def missing_interval_reason(entry: Mapping[str, Any]) -> str:
    """Why an entry has no interval; "" if it has one, or no reason is recorded."""
    return "" if "low" in entry else str(entry.get("interval", ""))
