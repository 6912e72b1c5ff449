"""The figures of a run, from its rows alone: each with its denominator by name and an interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoreag.runs.headline import build_headline, judge_rates, list_warnings, suggest_fixes
from scoreag.runs.records import Row
from scoreag.stats.estimates import quantile_interval
from scoreag.stats.proportion import Proportion

ALL_IMAGES = "all images"
CLEAN_CORRECT = "images classified correctly before"


def summarize_rows(
    task: str, rows: Sequence[Row], manifest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Shares with Wilson intervals, medians with theirs, and what it all cost.

    Args:
        about: the manifest of the run, for the name of the judge and the settings.
    """
    rates = {
        "synthesize": _synthesis_rates,
        "transform": _transform_rates,
        "purify": _purify_rates,
    }[task](rows)
    return {
        "task": task,
        "images": len(rows),
        **(_headline_entries(rows, rates, manifest or {}) if task != "purify" else {}),
        "rates": {name: rate.to_dict() for name, rate in rates.items()},
        "medians": _perturbation_sizes(rows),
        "nfe": _cost(rows, "nfe"),
        "restarts": _cost(rows, "restarts"),
        "guidance_skipped": _cost(rows, "guidance_skipped"),
    }


def _headline_entries(
    rows: Sequence[Row], rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """The headline, what it is worth, and what to try."""
    return {
        "headline": build_headline(rows, rates, manifest),
        "warnings": list_warnings(rows, rates, manifest),
        "hints": suggest_fixes(rates, manifest.get("config", {})),
    }


def _synthesis_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    return {**judge_rates(rows, rows, ALL_IMAGES), **_success_rates(rows, ALL_IMAGES)}


def _transform_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    right = [row for row in rows if row["predictions"]["before"] == row["label"]]
    return {
        "clean_accuracy": Proportion(len(right), len(rows), ALL_IMAGES),
        **judge_rates(rows, right, CLEAN_CORRECT),
        **_success_rates(right, CLEAN_CORRECT),
    }


def _purify_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    """Accuracy before and after, where labels and answers are known."""
    if any(row["label"] is None or row["predictions"]["saved"] is None for row in rows):
        return {}
    return {
        f"accuracy_{name}": _rate(
            rows, ALL_IMAGES, lambda row, said=said: row["predictions"][said] == row["label"]
        )
        for name, said in (("before", "before"), ("after", "saved"))
    }


def _success_rates(rows: Sequence[Row], population: str) -> dict[str, Proportion]:
    """The three verdicts, first of those images that needed no retry, then of all."""
    found = {}
    for verdict in ("success_float", "success", "targeted_success"):
        found[f"{verdict}_without_restarts"] = _rate(
            rows, population, lambda row, verdict=verdict: row[verdict] and not row["restarts"]
        )
        found[verdict] = _rate(rows, population, lambda row, verdict=verdict: row[verdict])
    return found


def _rate(rows: Sequence[Row], population: str, hit: Callable[..., bool]) -> Proportion:
    return Proportion(sum(bool(hit(row)) for row in rows), len(rows), population)


def _perturbation_sizes(rows: Sequence[Row]) -> dict[str, Any]:
    """How far the saved pictures are from their originals, in pixel units."""
    moved = [row["distances"] for row in rows if "distances" in row]
    return {
        norm: median_with_interval([d[norm] for d in moved], ALL_IMAGES)
        for norm in (moved[0] if moved else ())
    }


def median_with_interval(values: Sequence[float], population: str) -> dict[str, Any]:
    """The median and its interval from order statistics, which has the coverage that it says.

    Of fewer than 6 values no interval holds the median in 95 % of cases, so there is none.
    """
    ordered, n = sorted(values), len(values)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {"value": round(middle, 6), "of": population, "total": n, **quantile_interval(ordered)}


def _cost(rows: Sequence[Row], name: str) -> dict[str, Any]:
    total = sum(row[name] for row in rows)
    return {
        "sum": total,
        "per_image": round(total / max(1, len(rows)), 4),
        "of": ALL_IMAGES,
        "total": len(rows),
    }
