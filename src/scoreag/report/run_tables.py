"""The tables of tasks, certificates, evaluated models and the demo, from their summaries."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scoreag.certify.run import GENERATOR_TASK, SMOOTHING_TASK
from scoreag.certify.steered_generator import EVENTS
from scoreag.certify.transform_smoothing import load_transform
from scoreag.report.demo_counts import measure_images
from scoreag.report.demo_images import DemoReport
from scoreag.report.html import class_name, metric_label
from scoreag.report.table_export import Rows, Table
from scoreag.stats.estimates import MetricEntry

RATE_LABELS = {
    "clean_accuracy": "clean accuracy",
    "fooled_and_shown": "attack success, label preserved",
    "success": "attack success",
    "success_without_restarts": "attack success, without restarts",
    "targeted_success": "targeted success",
    "targeted_success_without_restarts": "targeted success, without restarts",
    "success_float": "attack success before rounding to 8 bits",
    "success_float_without_restarts": "the same, without restarts",
    "judge_agreement": "label preserved",
    "judge_agreement_before": "reference classifier, clean accuracy",
    "accuracy_before": "accuracy before purification",
    "accuracy_after": "accuracy after purification",
}
COSTS = {"nfe": "NFE", "restarts": "restarts", "guidance_skipped": "paused guidance"}


def task_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Rates, distances, searched options and cost of a task; tables without rows are left out."""
    rates: Rows = [
        [RATE_LABELS.get(name, name.replace("_", " ")), rate["of"], rate]
        for name, rate in summary["rates"].items()
    ]
    distances: Rows = [[name, entry["total"], entry] for name, entry in summary["medians"].items()]
    searched: Rows = [
        [name, summary[name]["total"], summary[name]]
        for name in ("attack_scale", "similarity")
        if name in summary
    ]
    cost: Rows = [
        [label, summary[name]["total"], summary[name]["sum"], float(summary[name]["per_image"])]
        for name, label in COSTS.items()
    ]
    what = "the saved 8-bit images, with 95 % intervals (Wilson)"
    tables = [
        Table("rates", "Rates", f"Rates on {what}.", ["rate", "of", "value"], rates),
        Table(
            "distances", "Distances", "Median distances of the saved images from the originals; "
            "color values lie in [0, 1].", ["norm", "images", "median"], distances,
        ),
        Table("searched", "Searched options", "Found image by image.",
              ["option", "images", "median"], searched),
        Table("cost", "Compute cost", "NFE: denoiser evaluations.",
              ["cost", "images", "total", "per image"], cost),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def certificate_tables(summary: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Table]:
    """Certified accuracies of a smoothing, or the bounds on a generator."""
    if summary["task"] == GENERATOR_TASK:
        return _generator_tables(summary, manifest.get("classes", ()))
    rates: Rows = [[name.replace("_", " "), r["of"], r] for name, r in summary["rates"].items()]
    caption = "The smoothed classifier, without any change of the images."
    known = Table("rates", "Smoothed classifier", caption, ["rate", "of", "value"], rates)
    if summary["task"] == SMOOTHING_TASK:
        caption = (
            "Correct and certified at an L2 radius; n and alpha allow at most "
            f"{summary['largest_radius']:g}."
        )
        return [_certified_table("certified", caption, "L2 radius", summary["certified"]), known]
    tables = []
    for quantity in load_transform(manifest["config"]["transform"]).quantities:
        caption = f"Correct and certified, by {quantity.name} ({quantity.text})."
        certified = summary["certified"][quantity.name]
        name = f"certified_{quantity.name}"
        tables.append(_certified_table(name, caption, quantity.name, certified))
    return [*tables, known]


def _certified_table(
    name: str, caption: str, quantity: str, certified: Mapping[str, MetricEntry | None]
) -> Table:
    rows: Rows = [[threshold, entry or "beyond N"] for threshold, entry in certified.items()]
    return Table(name, "Certified accuracy", caption, [quantity, "certified accuracy"], rows)


def _generator_tables(summary: Mapping[str, Any], classes: Sequence[str]) -> list[Table]:
    bounds: Rows = [
        [class_name(int(label), classes), rate["total"], rate, _bound(rate["upper"])]
        for label, rate in summary["classes"].items()
    ]
    everything = summary["misclassified"]
    bounds.append(["all classes", everything["total"], everything, _bound(summary["upper_mean"])])
    caption = (
        "Misclassified samples, and the upper bound on their probability (alpha "
        f"{summary['alpha']:g}, shared among all bounds)."
    )
    header = ["class", "samples", "misclassified", "at most"]
    tables = [Table("classes", "Bounds by class", caption, header, bounds)]
    for event, parts in summary.get("steered", {}).items():
        rows: Rows = [
            [class_name(int(key), classes) if key else "all classes", budget,
             _bound(entry["bound"]), entry.get("attack")]
            for key, part in parts.items()
            for budget, entry in part["budgets"].items()
        ]  # fmt: skip
        caption = (
            f"Images that are {EVENTS[event]}, whoever steers the generator by shifts of the noise "
            "of length R: the bound, and what our attack reached."
        )
        header = ["class", "R", "at most", "our attack"]
        tables.append(Table(f"steered_{event}", "Steered generator", caption, header, rows, 2))
    return tables


def _bound(value: float) -> MetricEntry:
    """An upper bound, which has no interval."""
    return {"value": value, "unit": "share"}


def evaluation_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Metrics, metrics by class, and the comparison with the card."""
    rows: Rows = [
        [metric_label(name), entry["total"], entry["of"], entry]
        for name, entry in _list_metrics(evaluation["metrics"])
    ]
    per_class = evaluation.get("per_class") or {}
    kinds = list(next(iter(per_class.values()), {}))
    by_class: Rows = [[name, *map(rates.get, kinds)] for name, rates in per_class.items()]
    compared: Rows = [
        [one["name"], _now(one["card_value"]), {**_now(one["recomputed"]), **_ends(one)},
         one["reason"]]
        for one in evaluation.get("compared", ())
    ]  # fmt: skip
    name = evaluation["model"]["name"]
    tables = [
        Table("metrics", "Metrics", f"Metrics of {name}, with 95 % intervals.",
              ["metric", "images", "of", "value"], rows),
        Table("per_class", "Per-class results", "Images in which the reference classifier sees "
              "the class that was asked for, or that they show.", ["class", *kinds], by_class),
        Table("comparison", "Comparison with the model card",
              "The values of the card, and those computed now.",
              ["metric", "card", "now", "outcome"], compared),
        *_score_model_tables(evaluation),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _score_model_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Progress of the training, nearest training images and throughput; none of a classifier."""
    curve: Sequence[Mapping[str, Any]] = evaluation.get("curve") or []
    speed = evaluation.get("speed") or {"seconds": {}}
    names = list(curve[0]["metrics"]) if len(curve) > 1 else []
    progress: Rows = [
        [one["name"], one["images_seen"], *(one["metrics"].get(n) for n in names)]
        for one in curve if names
    ]  # fmt: skip
    neighbors: Rows = [
        [space, of, quantile, entry]
        for space, sets in (evaluation.get("neighbors") or {}).items()
        for of, entries in sets.items()
        for quantile, entry in entries.items()
    ]
    seconds: Rows = [[int(nfe), entry] for nfe, entry in speed["seconds"].items()]
    return [
        Table("progress", "Training progress", "All models on the same images.",
              ["model", "images seen", *map(metric_label, names)], progress),
        Table("neighbors", "Nearest training images", "Distance to the nearest training image.",
              ["space", "images", "quantile", "distance"], neighbors, names=3),
        Table("throughput", "Throughput", "Seconds per image.", ["NFE", "seconds"], seconds),
    ]  # fmt: skip


def _list_metrics(metrics: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, MetricEntry]]:
    """Each metric with its name; those of a section begin with the section's."""
    for name, entry in metrics.items():
        if "value" in entry:
            yield f"{above}{name}", entry
        else:
            yield from _list_metrics(entry, f"{above}{name}, ")


def _now(value: float) -> MetricEntry:
    return {"value": value}


def _ends(one: Mapping[str, Any]) -> MetricEntry:
    return {"low": one["low"], "high": one["high"]}


def demo_table(report: DemoReport) -> Table:
    """The table of the demo: a row per kind of image."""
    rows: Rows = []
    for one in measure_images(report):
        rates = (one.correct, one.fooled, one.judge_correct)
        counts = [None if rate is None else rate.to_dict() for rate in rates]
        rows.append(
            [one.name, one.classifier, one.correct.total, *counts, one.largest_change, one.nfe]
        )
    header = ["images", "classifier", "number", "correct", "fooled", "reference classifier correct",
              "median largest change", "NFE"]  # fmt: skip
    caption = "The demo's classifiers on real and on generated images; 95 % intervals (Wilson)."
    return Table("demo", "Demo", caption, header, rows, names=2)
