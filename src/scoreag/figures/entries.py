"""A figure as a card and figures.json hold it: value, low, high, total, of, and how it was got."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from jaxtyping import Bool, Float
from scipy.special import stdtrit
from torch import Tensor

from scoreag.metrics.accuracy import Rate, Z, wilson
from scoreag.metrics.kernel_distance import Estimate
from scoreag.metrics.quantiles import TOO_SMALL, ends

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
    """The mean, with its standard error ``sd / n^(1/2)`` and Student's interval; of one value none.

    The interval is exact for normal values, however few they are.
    """
    n = len(values)
    error = float(values.std()) / math.sqrt(n) if n > 1 else math.inf
    if not math.isfinite(error):
        return {"value": _short(float(values.mean())), "of": of, "total": n, "interval": TOO_SMALL}
    found = of_estimate(Estimate(float(values.mean()), error), of, n, "the spread over images")
    reach, middle = float(stdtrit(n - 1, 0.975)) * error, float(values.mean())
    told = "95 %, Student; standard error by the spread over images"
    return {
        **found,
        "low": _short(middle - reach),
        "high": _short(middle + reach),
        "interval": told,
    }


def of_quantile(values: Float[Tensor, " count"], share: float, of: str) -> Entry:
    """The value that ``share`` of all lie below, with its interval from order statistics."""
    ordered: list[float] = values.double().sort().values.tolist()
    entry: Entry = {"value": _short(float(values.quantile(share))), "of": of, "total": len(values)}
    found = ends(ordered, share)
    return entry | {n: _short(x) if isinstance(x, float) else x for n, x in found.items()}


def of_paired_shares(a: Bool[Tensor, " count"], b: Bool[Tensor, " other"], of: str) -> Entry:
    """How much more often ``a`` is true than ``b``, of the same images; Bonett and Price (2012).

    Only images at which the two differ tell.  With ``p = (n_10 + 1) / (n + 2)``, and q of n_01, the
    interval is ``p - q -+ z ((p + q - (p - q)^2) / (n + 2))^(1/2)``: it has a width also where the
    two agree on every image.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are no pairs")
    n, more, less = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    p, q = (more + 1) / (n + 2), (less + 1) / (n + 2)
    reach = Z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return {
        "value": _short((more - less) / n), "of": of, "total": n,
        "low": _short(max(-1.0, p - q - reach)), "high": _short(min(1.0, p - q + reach)),
        "interval": "95 %, Bonett and Price, paired",
    }  # fmt: skip


def told(entry: Entry) -> str:
    """A figure in words, with its denominator and its interval."""
    if "count" in entry:
        return str(Rate(entry["count"], entry["total"], entry["of"]))
    inside = f"{entry['low']:.4g} to {entry['high']:.4g}" if "low" in entry else no_interval(entry)
    return f"{entry['value']:.4g}{f' ({inside})' * bool(inside)}, {entry['total']} {entry['of']}"


def no_interval(entry: Mapping[str, Any]) -> str:
    """Why an entry has no interval, in words; "" where it has one, or nobody said why."""
    return "" if "low" in entry else str(entry.get("interval", ""))


def _short(value: float) -> float:
    """Seven digits: more than any of these figures means, few enough to read."""
    return float(f"{value:.7g}")
