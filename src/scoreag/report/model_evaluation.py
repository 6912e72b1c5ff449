"""The page of an evaluated model, and its metrics as text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from scoreag.evaluation.sampling import select_class
from scoreag.evaluation.score_model import NearestPairs
from scoreag.evaluation.storage import MetricComparison
from scoreag.metrics.feature_extractors import Pixels
from scoreag.report.figure_export import number_charts
from scoreag.report.html import (
    Chart,
    ImageCell,
    Strip,
    metric_curve,
    metric_label,
    plot_curves,
    render_page,
)
from scoreag.report.provenance import describe_reproduction
from scoreag.stats.estimates import MetricEntry, format_entry

MAX_PER_CLASS = 6  # samples of a class on the page
Metrics: TypeAlias = Mapping[str, MetricEntry]


def render_score_page(
    evaluation: Mapping[str, Any],
    pixels: Pixels,
    pairs: NearestPairs,
    comparisons: Sequence[MetricComparison],
) -> str:
    """The report of a score model."""
    name, metrics = str(evaluation["model"]["name"]), evaluation["metrics"]
    return render_page(
        "score_model",
        title=f"Evaluation of the score model {name}",
        lead=[_summary_sentence(name, metrics)],
        evaluation=evaluation,
        comparisons=comparisons,
        **_training_progress(evaluation["curve"]),
        loss=_plot_loss(evaluation["loss"]),
        neighbors={
            f"{of}: {quantile}, in {space}": entry
            for space, sets in evaluation["neighbors"].items()
            for of, entries in sets.items()
            for quantile, entry in entries.items()
        },
        pairs=_pair_strips(pairs),
        samples=_sample_strips(pixels, evaluation["classes"]),
        seconds={
            f"{nfe} denoiser evaluations": entry
            for nfe, entry in evaluation["speed"]["seconds"].items()
        },
        reproduction=describe_reproduction(evaluation["environment"]),
        footer=evaluation["footer"],
    )


def render_classifier_page(
    evaluation: Mapping[str, Any], comparisons: Sequence[MetricComparison]
) -> str:
    """The report of a classifier."""
    name, rate = evaluation["model"]["name"], evaluation["metrics"]["test"]["accuracy"]
    return render_page(
        "classifier",
        title=f"Evaluation of the classifier {name}",
        lead=[f"{name} classifies {rate['count']} of {rate['total']} {rate['of']} correctly."],
        evaluation=evaluation,
        comparisons=comparisons,
        reproduction=describe_reproduction(evaluation["environment"]),
        footer=evaluation["footer"],
    )


def format_text(metrics: Metrics, comparisons: Sequence[MetricComparison]) -> str:
    """A line per metric, and a line for each that the card holds."""
    labels = {metric_label(name): entry for name, entry in metrics.items()}
    width = max(map(len, labels))
    lines = [f"{label:<{width}}  {format_entry(entry)}" for label, entry in labels.items()]
    return "\n".join([*lines, *map(str, comparisons)])


def _summary_sentence(name: str, metrics: Metrics) -> str:
    if "judge_accuracy" not in metrics:
        first = next(iter(metrics))
        return f"{metric_label(first)}: {format_entry(metrics[first])}."
    rate = metrics["judge_accuracy"]
    return (
        f"The reference classifier sees the intended class in {rate['count']} of {rate['total']} "
        f"samples of {name}."
    )


def plot_evaluation(evaluation: Mapping[str, Any]) -> dict[str, Chart]:
    """The charts of a score model's evaluation by name; none of a classifier's."""
    if "loss" not in evaluation:
        return {}
    progress = _training_progress(evaluation["curve"])["progress_charts"]
    return {"loss": _plot_loss(evaluation["loss"]), **number_charts("progress", progress)}


def _training_progress(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each metric over the images seen in training, where several models are compared."""
    names = [name for name in points[0]["metrics"] if not name.startswith("precision")]
    charts = [_plot_metric(points, name) for name in names] if len(points) > 1 else []
    return {"progress_metrics": names, "progress_charts": charts}


def _plot_metric(points: Sequence[Mapping[str, Any]], name: str) -> Chart:
    label = metric_label(name)
    seen = [point["images_seen"] for point in points]
    curve = metric_curve(label, seen, [point["metrics"][name] for point in points])
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
