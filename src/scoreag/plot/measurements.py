"""What the plots show: metrics of results, of run folders and of assessments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, Union

from scoreag.assess.metrics import CellResult
from scoreag.assess.plan import NONE
from scoreag.assess.results import aggregate
from scoreag.certify.run import SMOOTHING_TASK, TRANSFORM_TASKS
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row
from scoreag.methods.result import Result
from scoreag.methods.saved_result import load_result
from scoreag.registry import describe_value, did_you_mean
from scoreag.report.certification import read_certificate
from scoreag.report.robustness_figures import attacked_cells, model_names
from scoreag.stats.estimates import MetricEntry
from scoreag.stats.proportion import (
    Proportion,
    clopper_pearson_lower,
    clopper_pearson_upper,
)

Source: TypeAlias = Union[
    Result, str, Path, "Measurement", Sequence["Source"], Mapping[str, "Source"]
]
INTERVALS = ("wilson", "clopper-pearson")
METRICS = {  # by the name in ``tradeoff`` and ``curves``: those of a cell, and of a result
    "accuracy": ("accuracy",),
    "clean_accuracy": ("clean_accuracy",),
    "success": ("success_of_right", "success"),
    "label_preserved": ("judge_agreement",),
    "success_label_preserved": ("fooled_and_shown",),
    **{name: (name,) for name in ("lpips", "ssim", "l0", "l1", "l2", "linf", "psnr")},
    "certified_accuracy": ("certified_accuracy",),
}
LABELS = {
    "accuracy": "robust accuracy",
    "clean_accuracy": "clean accuracy",
    "success": "attack success",
    "label_preserved": "label preserved (reference classifier)",
    "success_label_preserved": "attack success, label preserved",
    "certified_accuracy": "certified accuracy",
    "lpips": "LPIPS", "ssim": "SSIM", "psnr": "PSNR",
    "eps": "eps, pixels in [0, 1]",
    "attack_scale": "attack scale s_y",
    "similarity": "similarity s_x",
    "radius": "certified radius",
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """Metrics of one setting.

    Args:
        series: the curve that it belongs to.
        options: of the attack, among them what a curve runs over.
        metrics: by name, each with its value, interval, and number of images.
    """

    series: str
    options: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, MetricEntry] = field(default_factory=dict)


def read_measurements(source: Source) -> list[Measurement]:
    """The measurements of results, folders, or several of them.

    Args:
        source: a ``Result``; the folder of a task, an assessment or a smoothing; a list of
            these; or a mapping from the names of curves to these.

    Raises:
        ValueError: something else; says what it was.
    """
    if isinstance(source, Measurement):
        return [source]
    if isinstance(source, Result):
        return [_measure_result(source)]
    if isinstance(source, str | Path):
        return list(_read_folder(Path(source)))
    if isinstance(source, Mapping):
        return [
            replace(one, series=name)
            for name, part in source.items()
            for one in read_measurements(part)
        ]
    if isinstance(source, Sequence):
        return [one for part in source for one in read_measurements(part)]
    raise ValueError(
        f"there is {describe_value(source)} to plot; expected a Result, the folder of a run, or a "
        "list or mapping of these"
    )


def find_metric(one: Measurement, name: str) -> MetricEntry | None:
    """A metric of ``METRICS``; None where it was not measured.

    Raises:
        ValueError: there is no such metric; names a near one.
    """
    if name not in METRICS:
        raise ValueError(f"no metric {name!r}; {did_you_mean(name, [*METRICS])}")
    found = (one.metrics[key] for key in METRICS[name] if key in one.metrics)
    return next((entry for entry in found if entry.get("value") is not None), None)


def interval_of(entry: MetricEntry, interval: str) -> tuple[float, float]:
    """The ends of the 95 % interval of a metric; its value, where it has none.

    Args:
        interval: of a count: one of ``INTERVALS``; other metrics have their own.
    """
    if interval not in INTERVALS:
        raise ValueError(f"no interval {interval!r}; {did_you_mean(interval, [*INTERVALS])}")
    if "count" in entry and interval == INTERVALS[1]:
        count, total = entry["count"], entry["total"]
        return (
            clopper_pearson_lower(count, total, 0.025),
            clopper_pearson_upper(count, total, 0.025),
        )
    value = float(entry["value"] or 0)
    return float(entry.get("low", value)), float(entry.get("high", value))


def _measure_result(result: Result, series: str = "") -> Measurement:
    """The rates and the median distances of a result, and its options."""
    summary = result.summarize()
    metrics = {**summary["rates"], **summary["medians"]}
    if result.predictions is not None and result.labels is not None:
        right = int((result.predictions == result.labels).sum())
        metrics["accuracy"] = Proportion(right, len(result), "all images").to_dict()
    name = str(result.config.get("attack", result.task))
    return Measurement(series or name, dict(result.config), metrics)


def _read_folder(folder: Path) -> Iterator[Measurement]:
    task = str(read_manifest(folder).get("task"))
    if task.startswith("assess "):
        assessment = aggregate(folder)
        names = model_names(assessment)
        yield from (_measure_cell(one, names) for one in attacked_cells(assessment))
    elif task in (SMOOTHING_TASK, *TRANSFORM_TASKS.values()):
        yield from _measure_certificate(folder)
    else:
        yield _measure_result(load_result(folder))


def _measure_cell(one: CellResult, names: Mapping[str, str]) -> Measurement:
    """An experiment; its curve is that of the classifier, the defense and the attack."""
    cell = one.cell
    defense = [] if cell.purifier_name == NONE else [cell.purifier_name]
    series = ", ".join([names[cell.classifier], *defense, cell.attack])
    return Measurement(series, {**cell.options}, {**one.metrics})


def _measure_certificate(folder: Path) -> Iterator[Measurement]:
    """The certified accuracy at each radius at which it changes."""
    manifest, rows = read_certificate(folder)
    for radius in sorted({0.0, *(row["radius"] for row in rows if _is_certified(row))}):
        held = sum(_is_certified(row) and row["radius"] >= radius for row in rows)
        entry = Proportion(held, len(rows), "all images").to_dict()
        options = {"radius": radius, **manifest["config"]}
        yield Measurement(folder.name, options, {"certified_accuracy": entry})


def _is_certified(row: Row) -> bool:
    return bool(row["correct"] and row["radius"] is not None)
