"""A figure as a card and figures.json hold it: value, low, high, total, of, and how it was got."""

import math
from typing import Any, TypeAlias

from jaxtyping import Float
from torch import Tensor

from scoreag.metrics.accuracy import Rate, Z, wilson
from scoreag.metrics.kernel_distance import Estimate

Entry: TypeAlias = dict[str, Any]


def of_rate(rate: Rate) -> Entry:
    """A share, with Wilson's interval."""
    return {**rate.to_dict(), "interval": "Wilson, 95 %"}


def of_shares(values: Float[Tensor, " count"], of: str) -> Entry:
    """The mean of one share in [0, 1] an image, with Wilson's interval, as if images were coins.

    It is no narrower than it must be: of all that lie in [0, 1] and have the mean p, a coin varies
    most, by ``p (1 - p)``.  Other than resampled images it knows of what no image showed.
    """
    mean = float(values.double().mean())
    low, high = wilson(mean, len(values))
    return {
        "value": _short(mean), "of": of, "total": len(values), "low": _short(low),
        "high": _short(high), "interval": "Wilson, 95 %, of a mean of shares",
    }  # fmt: skip


def of_estimate(found: Estimate, of: str, total: int, how: str) -> Entry:
    """``value -+ 1.96 error``."""
    reach = Z * found.error
    return {
        "value": _short(found.value),
        "error": _short(found.error),
        "of": of,
        "total": total,
        "low": _short(found.value - reach),
        "high": _short(found.value + reach),
        "interval": f"95 %, normal; standard error by {how}",
    }


def of_mean(values: Float[Tensor, " count"], of: str) -> Entry:
    """The mean, with its standard error ``sd / n^(1/2)``; no interval from a single value."""
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else math.inf
    if not math.isfinite(error):
        return {"value": _short(float(values.mean())), "of": of, "total": n}
    return of_estimate(Estimate(float(values.mean()), error), of, n, "the spread over images")


def of_quantile(values: Float[Tensor, " count"], share: float, of: str) -> Entry:
    """The value that ``share`` of all lie below, with its 95 % interval from order statistics.

    The number of values below the true quantile is binomial (n, share); the interval's ends are
    the values of rank ``n q -+ z (n q (1 - q))^(1/2)``, rounded outwards.
    """
    ordered, n = values.sort().values, len(values)
    middle, half = n * share, Z * math.sqrt(n * share * (1 - share))
    low = max(math.floor(middle - half), 1)
    high = min(math.ceil(middle + half) + 1, n)
    return {
        "value": _short(float(ordered.quantile(share))),
        "of": of,
        "total": n,
        "low": _short(float(ordered[low - 1])),
        "high": _short(float(ordered[high - 1])),
        "interval": "95 %, order statistics",
    }


def told(entry: Entry) -> str:
    """A figure in words, with its denominator and its interval."""
    if "count" in entry:
        return str(Rate(entry["count"], entry["total"], entry["of"]))
    ends = f" ({entry['low']:.4g} to {entry['high']:.4g})" if "low" in entry else ""
    return f"{entry['value']:.4g}{ends}, {entry['total']} {entry['of']}"


def _short(value: float) -> float:
    """Seven digits: more than any of these figures means, few enough to read."""
    return float(f"{value:.7g}")
