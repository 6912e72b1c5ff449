"""The page of an evaluated model, and its metrics as text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from scoreag.evaluation.memorization import NearestPairs
from scoreag.evaluation.reproducibility import MetricComparison
from scoreag.evaluation.sample_grids import select_class
from scoreag.metrics.feature_extractors import Pixels
from scoreag.report.html import TableCell, format_count, render_page
from scoreag.report.image_grid import ImageCell, Strip
from scoreag.report.svg_plots import Chart, metric_curve, plot_curves
from scoreag.stats.estimates import MetricEntry, format_entry, missing_interval_reason
from scoreag.stats.proportion import Proportion

MAX_PER_CLASS = 6  # samples of a class on the page
BASELINE = "_floor"  # the end of the name of a metric of training images
Metrics: TypeAlias = Mapping[str, MetricEntry]
HeaderAndRows: TypeAlias = tuple[list[str], list[list[TableCell]]]


def render_score_page(
    evaluation: Mapping[str, Any],
    pixels: Pixels,
    pairs: NearestPairs,
    comparisons: Sequence[MetricComparison],
) -> str:
    """The report of a score model."""
    name, metrics = str(evaluation["model"]["name"]), evaluation["figures"]
    return render_page(
        "score_model",
        title=f"How good is {name}?",
        summary=[_summary_sentence(name, metrics)],
        metrics=_metric_rows(metrics),
        comparisons=_comparison_rows(comparisons),
        per_class=_per_class_table(evaluation["per_class"]),
        **_training_progress(evaluation["curve"]),
        loss=_plot_loss(evaluation["loss"]),
        neighbors=_neighbor_rows(evaluation["neighbours"]),
        pairs=_pair_strips(pairs),
        samples=_sample_strips(pixels, evaluation["classes"]),
        speed=evaluation["speed"],
        seconds=[
            _metric_row(f"{nfe} denoiser evaluations", entry)
            for nfe, entry in evaluation["speed"]["seconds"].items()
        ],
        footer=evaluation["foot"],
    )


def render_classifier_page(
    evaluation: Mapping[str, Any], comparisons: Sequence[MetricComparison]
) -> str:
    """The report of a classifier."""
    name, rate = evaluation["model"]["name"], evaluation["figures"]["test"]["accuracy"]
    return render_page(
        "classifier",
        title=f"How good is {name}?",
        summary=[f"{name} classifies {rate['count']} of {rate['total']} {rate['of']} correctly."],
        parts_metrics={part: _metric_rows(m) for part, m in evaluation["figures"].items()},
        comparisons=_comparison_rows(comparisons),
        skipped=evaluation["left"],
        footer=evaluation["foot"],
    )


def format_text(metrics: Metrics, comparisons: Sequence[MetricComparison]) -> str:
    """A line per metric, and a line for each that the card holds."""
    labels = {metric_label(name): entry for name, entry in metrics.items()}
    width = max(map(len, labels))
    lines = [f"{label:<{width}}  {format_entry(entry)}" for label, entry in labels.items()]
    return "\n".join([*lines, *map(str, comparisons)])


def metric_label(name: str) -> str:
    """The name of a metric as words."""
    words = name.removesuffix(BASELINE).replace("_", " ")
    return f"{words}, training-set baseline" if name.endswith(BASELINE) else words


def _summary_sentence(name: str, metrics: Metrics) -> str:
    if "judge_accuracy" not in metrics:
        first = next(iter(metrics))
        return f"{metric_label(first)}: {format_entry(metrics[first])}."
    rate = metrics["judge_accuracy"]
    return (
        f"The reference classifier sees the intended class in {rate['count']} of {rate['total']} "
        f"unguided samples of {name}."
    )


def _metric_rows(metrics: Metrics) -> list[list[TableCell]]:
    return [_metric_row(metric_label(name), entry) for name, entry in metrics.items()]


def _metric_row(label: str, entry: MetricEntry) -> list[TableCell]:
    """Label, value, interval, number of images."""
    value = "none" if entry["value"] is None else f"{entry['value']:.4g}"
    interval: TableCell = _format_interval(entry)
    if "low" in entry:
        interval = (str(interval), entry.get("interval", "Wilson, 95 %"))
    count = f"{entry['count']} of {entry['total']}" if "count" in entry else str(entry["total"])
    return [label, value, interval, (count, entry["of"])]


def _format_interval(entry: MetricEntry) -> str:
    if "low" not in entry:
        return missing_interval_reason(entry)
    return f"{entry['low']:.4g} to {entry['high']:.4g}"


def _comparison_rows(comparisons: Sequence[MetricComparison]) -> list[list[TableCell]]:
    words = {True: "reproduced", False: "not reproduced", None: "not compared"}

    def row(one: MetricComparison) -> list[TableCell]:
        now = (f"{one.recomputed:.6g}", f"{one.low:.6g} to {one.high:.6g}")
        return [one.name, f"{one.card_value:.6g}", now, (words[one.reproduced], one.reason)]

    return [row(one) for one in comparisons]


def _per_class_table(classes: Mapping[str, Metrics]) -> HeaderAndRows | None:
    if not classes:
        return None
    rows: list[list[TableCell]] = [
        [name, *(format_count(Proportion(e["count"], e["total"], e["of"])) for e in rates.values())]
        for name, rates in classes.items()
    ]
    return ["", *next(iter(classes.values()))], rows


def _training_progress(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each metric over the images seen in training, where several models are compared."""
    if len(points) < 2:
        return {"progress": None, "progress_charts": []}
    names = [name for name in points[0]["figures"] if not name.startswith("precision")]
    rows = [
        [f"{point['name']}, {point['images_seen']} images seen",
         *(_value_cell(point["figures"][name]) for name in names)]
        for point in points
    ]  # fmt: skip
    charts = [_plot_metric(points, name) for name in names]
    return {"progress": (["", *map(metric_label, names)], rows), "progress_charts": charts}


def _value_cell(entry: MetricEntry) -> TableCell:
    return f"{entry['value']:.4g}", _format_interval(entry)


def _plot_metric(points: Sequence[Mapping[str, Any]], name: str) -> Chart:
    label = metric_label(name)
    seen = [point["images_seen"] for point in points]
    curve = metric_curve(label, seen, [point["figures"][name] for point in points])
    svg = plot_curves([curve], "images seen", label, alt=label)
    return Chart(svg, f"{label}, with its 95 % interval, over the images seen in training")


def _plot_loss(losses: Mapping[str, Any]) -> Chart:
    curves = [
        metric_curve(f"{part} images", losses["levels"], losses[part]) for part in ("train", "test")
    ]
    words = "weighted denoising loss per pixel, on training and on test images"
    svg = plot_curves(curves, "noise level sigma", "loss", alt=words, log_x=True)
    total = losses["test"][0]["total"]
    return Chart(svg, f"The {words}: mean over {total} images with its 95 % interval, equal noise")


def _neighbor_rows(neighbors: Mapping[str, Any]) -> list[list[TableCell]]:
    return [
        _metric_row(f"{of}: {quantile.replace('_', ' ')}, in {space}", entry)
        for space, sets in neighbors.items()
        for of, entries in sets.items()
        for quantile, entry in entries.items()
    ]


def _pair_strips(pairs: NearestPairs) -> list[Strip]:
    images = zip(pairs.generated, pairs.training, pairs.distance, strict=True)
    return [
        Strip(
            f"distance {distance:.3g}",
            [
                ImageCell(a, "sample", "a sample"),
                ImageCell(b, "training image", "a training image"),
            ],
        )
        for a, b, distance in images
    ]


def _sample_strips(pixels: Pixels, classes: Sequence[str]) -> list[Strip]:
    strips = []
    for number, name in enumerate(classes or ("samples",)):
        shown = select_class(pixels, number, len(classes))[:MAX_PER_CLASS]
        if len(shown):
            cells = [ImageCell(image, "", f"a sample: {name}") for image in shown]
            strips.append(Strip(name, cells))
    return strips
