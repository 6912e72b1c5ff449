"""A figure as a card and figures.json hold it: value, low, high, total, of, and how it was got."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

from scoreag.stats.proportion import Z_975, Proportion, wilson_interval
from scoreag.stats.quantiles import TOO_SMALL, quantile_interval

MetricEntry: TypeAlias = dict[str, Any]


class Estimate(NamedTuple):
    """A value with its standard error."""

    value: float
    std_error: float


def from_proportion(proportion: Proportion) -> MetricEntry:
    """A share, with Wilson's interval."""
    return {**proportion.to_dict(), "interval": "Wilson, 95 %"}


def from_fractions(values: Float[Tensor, " count"], population: str) -> MetricEntry:
    """The mean of one share in [0, 1] an image, with Wilson's interval, as if images were coins.

    It is no narrower than it must be: of all that lie in [0, 1] and have the mean p, a coin varies
    most, by ``p (1 - p)``.  Other than resampled images it knows of what no image showed.
    """
    mean = float(values.double().mean())
    low, high = wilson_interval(mean, len(values))
    return {
        "value": _round_to_seven_digits(mean), "of": population, "total": len(values), "low": _round_to_seven_digits(low),
        "high": _round_to_seven_digits(high), "interval": "Wilson, 95 %, of a mean of shares",
    }  # fmt: skip


def from_estimate(estimate: Estimate, population: str, total: int, method: str) -> MetricEntry:
    """``value -+ 1.96 error``."""
    reach = Z_975 * estimate.std_error
    return {
        "value": _round_to_seven_digits(estimate.value),
        "error": _round_to_seven_digits(estimate.std_error),
        "of": population,
        "total": total,
        "low": _round_to_seven_digits(estimate.value - reach),
        "high": _round_to_seven_digits(estimate.value + reach),
        "interval": f"95 %, normal; standard error by {method}",
    }


def estimate_mean(values: Float[Tensor, " count"], population: str) -> MetricEntry:
    """The mean, with its standard error ``sd / n^(1/2)`` and Student's interval; of one value none.

    The interval is exact for normal values, however few they are.
    """
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else math.inf
    if not math.isfinite(error):
        return {
            "value": _round_to_seven_digits(float(values.mean())),
            "of": population,
            "total": n,
            "interval": TOO_SMALL,
        }
    found = from_estimate(
        Estimate(float(values.mean()), error), population, n, "the spread over images"
    )
    reach, middle = float(stdtrit(n - 1, 0.975)) * error, float(values.mean())
    told = "95 %, Student; standard error by the spread over images"
    return {
        **found,
        "low": _round_to_seven_digits(middle - reach),
        "high": _round_to_seven_digits(middle + reach),
        "interval": told,
    }


def estimate_quantile(values: Float[Tensor, " count"], q: float, population: str) -> MetricEntry:
    """The value that ``share`` of all lie below, with its interval from order statistics."""
    ordered: list[float] = values.double().sort().values.tolist()
    entry: MetricEntry = {
        "value": _round_to_seven_digits(float(values.quantile(q))),
        "of": population,
        "total": len(values),
    }
    found = quantile_interval(ordered, q)
    return entry | {
        n: _round_to_seven_digits(x) if isinstance(x, float) else x for n, x in found.items()
    }


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
    return {
        "value": _round_to_seven_digits((more - less) / n), "of": population, "total": n,
        "low": _round_to_seven_digits(max(-1.0, p - q - reach)), "high": _round_to_seven_digits(min(1.0, p - q + reach)),
        "interval": "95 %, Bonett and Price, paired",
    }  # fmt: skip


def format_entry(entry: MetricEntry) -> str:
    """A figure in words, with its denominator and its interval."""
    if "count" in entry:
        return str(Proportion(entry["count"], entry["total"], entry["of"]))
    inside = (
        f"{entry['low']:.4g} to {entry['high']:.4g}"
        if "low" in entry
        else missing_interval_reason(entry)
    )
    return f"{entry['value']:.4g}{f' ({inside})' * bool(inside)}, {entry['total']} {entry['of']}"


def missing_interval_reason(entry: Mapping[str, Any]) -> str:
    """Why an entry has no interval, in words; "" where it has one, or nobody said why."""
    return "" if "low" in entry else str(entry.get("interval", ""))


def _round_to_seven_digits(value: float) -> float:
    """Seven digits: more than any of these figures means, few enough to read."""
    return float(f"{value:.7g}")
