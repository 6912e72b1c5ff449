"""The figures of a run, from its rows alone: each with its denominator by name and an interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoreag.metrics.accuracy import Rate
from scoreag.metrics.quantiles import ends
from scoreag.runs.headline import headline, hints, of_judge, warnings
from scoreag.runs.rows import Row

ALL = "all images"
RIGHT = "images classified correctly before"


def summary(
    task: str, rows: Sequence[Row], about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Shares with Wilson intervals, medians with theirs, and what it all cost.

    Args:
        about: the manifest of the run, for the name of the judge and the settings.
    """
    rates = {"synthesize": _synthesized, "transform": _transformed, "purify": _purified}[task](rows)
    return {
        "task": task,
        "images": len(rows),
        **(_told(rows, rates, about or {}) if task != "purify" else {}),
        "rates": {name: rate.to_dict() for name, rate in rates.items()},
        "medians": _moved(rows),
        "calls": _cost(rows, "calls"),
        "retries": _cost(rows, "retries"),
        "rests": _cost(rows, "rests"),
    }


def _told(
    rows: Sequence[Row], rates: Mapping[str, Rate], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The headline, what it is worth, and what to try."""
    return {
        "headline": headline(rows, rates, about),
        "warnings": warnings(rows, rates, about),
        "hints": hints(rates, about.get("settings", {})),
    }


def _synthesized(rows: Sequence[Row]) -> dict[str, Rate]:
    return {**of_judge(rows, rows, ALL), **_verdicts(rows, ALL)}


def _transformed(rows: Sequence[Row]) -> dict[str, Rate]:
    right = [row for row in rows if row["predictions"]["before"] == row["label"]]
    return {
        "clean_accuracy": Rate(len(right), len(rows), ALL),
        **of_judge(rows, right, RIGHT),
        **_verdicts(right, RIGHT),
    }


def _purified(rows: Sequence[Row]) -> dict[str, Rate]:
    """Accuracy before and after, where labels and answers are known."""
    if any(row["label"] is None or row["predictions"]["saved"] is None for row in rows):
        return {}
    return {
        f"accuracy_{name}": _share(
            rows, ALL, lambda row, said=said: row["predictions"][said] == row["label"]
        )
        for name, said in (("before", "before"), ("after", "saved"))
    }


def _verdicts(rows: Sequence[Row], of: str) -> dict[str, Rate]:
    """The three verdicts, first of those images that needed no retry, then of all."""
    found = {}
    for verdict in ("success", "success_8bit", "as_wanted"):
        found[f"{verdict}_without_retries"] = _share(
            rows, of, lambda row, verdict=verdict: row[verdict] and not row["retries"]
        )
        found[verdict] = _share(rows, of, lambda row, verdict=verdict: row[verdict])
    return found


def _share(rows: Sequence[Row], of: str, hit: Callable[..., bool]) -> Rate:
    return Rate(sum(bool(hit(row)) for row in rows), len(rows), of)


def _moved(rows: Sequence[Row]) -> dict[str, Any]:
    """How far the saved pictures are from their originals, in pixel units."""
    moved = [row["distances"] for row in rows if "distances" in row]
    return {norm: median([d[norm] for d in moved], ALL) for norm in (moved[0] if moved else ())}


def median(values: Sequence[float], of: str) -> dict[str, Any]:
    """The median and its interval from order statistics, which has the coverage that it says.

    Of fewer than 6 values no interval holds the median in 95 % of cases, so there is none.
    """
    ordered, n = sorted(values), len(values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {"value": round(middle, 6), "of": of, "total": n, **ends(ordered)}


def _cost(rows: Sequence[Row], name: str) -> dict[str, Any]:
    total = sum(row[name] for row in rows)
    return {
        "sum": total,
        "per_image": round(total / max(1, len(rows)), 4),
        "of": ALL,
        "total": len(rows),
    }
