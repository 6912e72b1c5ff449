"""What came out, as a page and as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from scoreag.evaluation.memorization import NearestPairs
from scoreag.evaluation.reproducibility import MetricComparison
from scoreag.evaluation.sample_grids import select_class
from scoreag.metrics.feature_extractors import Pixels
from scoreag.report.html import TableCell as Cells
from scoreag.report.html import (
    definition_list,
    figure,
    format_count,
    paragraph,
    render_page,
    section,
    table,
)
from scoreag.report.image_grid import ImageCell, gallery, strip
from scoreag.report.svg_plots import Curve, plot_curves
from scoreag.stats.estimates import MetricEntry, format_entry, missing_interval_reason
from scoreag.stats.proportion import Proportion

MAX_PER_CLASS = 6  # draws of a class on the page
HEADER = ("", "value", "interval", "of")
GLOSSARY = (
    ("frechet", "Fréchet distance of the two sets of features, taken for Gaussians; 0 is best. It "
     "depends on the number of images: compare it with the floor beside it."),
    ("kernel", "Squared maximum mean discrepancy under a cubic kernel; 0 on average for two sets "
     "from one source, whatever their sizes, so that single values may lie below."),
    ("precision", "Share of draws that lie where real images do, in features: fidelity."),
    ("recall", "Share of test images that lie where draws do, in features: variety."),
    ("floor", "What training images score in place of the draws; no model is expected to be "
     "better."),
    ("judge", "A classifier that is asked whether a draw shows the class that was asked for; "
     "nothing guides these draws."),
)  # fmt: skip


def render_score_page(
    evaluation: Mapping[str, Any],
    pixels: Pixels,
    pairs: NearestPairs,
    comparisons: Sequence[MetricComparison],
) -> str:
    """The report of a score model, as one HTML file."""
    name, classes = str(evaluation["model"]["name"]), evaluation["classes"]
    body = [
        section("In figures", _metrics_table("All sets of equal size.", evaluation["figures"])),
        *_comparison_section(comparisons),
        *_per_class_section(evaluation["per_class"]),
        *_training_section(evaluation["curve"]),
        section("Denoising loss", _loss_plot(evaluation["loss"])),
        section(
            "Nearest training images",
            _neighbors_table(evaluation["neighbours"]),
            _pairs_gallery(pairs),
        ),
        section("Draws", gallery(_sample_strips(pixels, classes), 15)),
        section("Time", _throughput_table(evaluation["speed"])),
        section("The words", definition_list(GLOSSARY)),
    ]
    return render_page(
        f"How good is {name}?",
        [_summary_sentence(name, evaluation["figures"])],
        body,
        evaluation["foot"],
    )


def render_classifier_page(
    evaluation: Mapping[str, Any], comparisons: Sequence[MetricComparison]
) -> str:
    """The report of a classifier."""
    parts = [
        _metrics_table(f"figures.{part}", entries)
        for part, entries in evaluation["figures"].items()
    ]
    body = [section("In figures", *parts), *_comparison_section(comparisons)]
    left = (
        [section("Not computed again", *map(paragraph, evaluation["left"]))]
        if evaluation["left"]
        else []
    )
    rate = evaluation["figures"]["test"]["accuracy"]
    lead = (
        f"{evaluation['model']['name']} gets {rate['count']} of {rate['total']} {rate['of']} right."
    )
    return render_page(
        f"How good is {evaluation['model']['name']}?", [lead], [*body, *left], evaluation["foot"]
    )


def format_text(metrics: Mapping[str, MetricEntry], comparisons: Sequence[MetricComparison]) -> str:
    """A line a figure, and a line for each that the card holds."""
    width = max(len(name) for name in metrics)
    lines = [
        f"{name.replace('_', ' '):<{width}}  {format_entry(one)}" for name, one in metrics.items()
    ]
    return "\n".join([*lines, *map(str, comparisons)])


def _summary_sentence(name: str, metrics: Mapping[str, MetricEntry]) -> str:
    if "judge_accuracy" in metrics:
        rate = metrics["judge_accuracy"]
        return (
            f"The judge sees the class that was asked for in {rate['count']} of {rate['total']} "
            f"images that {name} drew, with nothing to guide it."
        )
    first = next(iter(metrics))
    return f"{first.replace('_', ' ')}: {format_entry(metrics[first])}."


def _metrics_table(caption: str, metrics: Mapping[str, MetricEntry]) -> str:
    return table(caption, HEADER, [_metric_row(name, entry) for name, entry in metrics.items()])


def _metric_row(name: str, entry: MetricEntry) -> list[Cells]:
    of = f"{entry['count']} of {entry['total']}" if "count" in entry else str(entry["total"])
    value = "none" if entry["value"] is None else f"{entry['value']:.4g}"
    return [name.replace("_", " "), value, _interval_cell(entry), (of, entry["of"])]


def _interval_cell(entry: MetricEntry) -> Cells:
    if "low" not in entry:
        return missing_interval_reason(entry)
    return f"{entry['low']:.4g} to {entry['high']:.4g}", entry.get("interval", "Wilson, 95 %")


def _comparison_section(comparisons: Sequence[MetricComparison]) -> list[str]:
    if not comparisons:
        return []
    words = {True: "reproduced", False: "not reproduced", None: "not compared"}
    rows: list[list[Cells]] = [
        [one.name, f"{one.card_value:.6g}", (f"{one.recomputed:.6g}", f"{one.low:.6g} to {one.high:.6g}"),
         (words[one.reproduced], one.reason)]
        for one in comparisons
    ]  # fmt: skip
    header = ("", "on the card", "now", "outcome")
    return [section("What the card says", table("Then and now.", header, rows))]


def _per_class_section(classes: Mapping[str, Mapping[str, MetricEntry]]) -> list[str]:
    if not classes:
        return []
    header = ("", *next(iter(classes.values())))
    rows: list[list[Cells]] = [
        [name, *(format_count(Proportion(e["count"], e["total"], e["of"])) for e in found.values())]
        for name, found in classes.items()
    ]
    caption = "Images of which the judge says the class that they were asked to show, or show."
    return [section("Class by class", table(caption, header, rows))]


def _training_section(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each figure over the images that the model had seen, where there are several models."""
    if len(points) < 2:
        return []
    names = [name for name in points[0]["figures"] if not name.startswith("precision")]
    drawings = [_metric_plot(points, name) for name in names]
    rows: list[list[Cells]] = [
        [f"{p['name']}, {p['images_seen']} images seen", *(_value_cell(p, name) for name in names)]
        for p in points
    ]
    header = ("", *(name.replace("_", " ") for name in names))
    return [section("Over the training", *drawings, table("The same images.", header, rows))]


def _metric_plot(points: Sequence[Mapping[str, Any]], name: str) -> str:
    x = [p["images_seen"] for p in points]
    entries = [p["figures"][name] for p in points]
    y, low, high = ([one.get(e, one["value"]) for one in entries] for e in ("value", "low", "high"))
    words = name.replace("_", " ")
    drawing = plot_curves([Curve(words, x, y, low, high)], "images seen", words, alt=words)
    return figure(drawing, f"{words}, with its 95 % interval, over the images seen in training")


def _value_cell(point: Mapping[str, Any], name: str) -> Cells:
    entry = point["figures"][name]
    ends = (
        f"{entry['low']:.4g} to {entry['high']:.4g}"
        if "low" in entry
        else missing_interval_reason(entry)
    )
    return f"{entry['value']:.4g}", ends


def _loss_plot(found: Mapping[str, Any]) -> str:
    levels = found["levels"]
    lines = [
        Curve(
            f"{name} images", levels, [e["value"] for e in found[name]],
            [e.get("low", e["value"]) for e in found[name]],
            [e.get("high", e["value"]) for e in found[name]],
        )
        for name in ("train", "test")
    ]  # fmt: skip
    words = "weighted denoising loss a pixel, on training and on test images"
    drawing = plot_curves(lines, "noise level sigma", "loss", alt=words, log_x=True)
    total = found["test"][0]["total"]
    return figure(drawing, f"The {words}: mean of {total} and its 95 % interval, the same noise")


def _neighbors_table(found: Mapping[str, Any]) -> str:
    rows = [
        _metric_row(f"{of}: {share.replace('_', ' ')}, in {space}", entry)
        for space, sets in found.items()
        for of, entries in sets.items()
        for share, entry in entries.items()
    ]
    caption = (
        "Distance to the nearest training image: Euclidean, pixels in [0, 1], or between features. "
        "A model that copies comes nearer than test images do."
    )
    return table(caption, HEADER, rows)


def _pairs_gallery(pairs: NearestPairs) -> str:
    strips = [
        strip(
            f"distance {distance:.3g}",
            [
                ImageCell(ours, "draw", "a draw"),
                ImageCell(theirs, "training image", "a training image"),
            ],
        )
        for ours, theirs, distance in zip(
            pairs.generated, pairs.training, pairs.distance, strict=True
        )
    ]
    return gallery(strips, 10)


def _sample_strips(pixels: Pixels, classes: Sequence[str]) -> list[str]:
    named = classes or ("draws",)
    return [
        strip(name, [ImageCell(image, "", f"a draw: {name}") for image in some])
        for number, name in enumerate(named)
        if len(some := select_class(pixels, number, len(classes))[:MAX_PER_CLASS])
    ]


def _throughput_table(found: Mapping[str, Any]) -> str:
    rows = [
        _metric_row(f"{calls} denoiser calls", entry) for calls, entry in found["seconds"].items()
    ]
    caption = (
        f"Seconds an image, {found['images_at_once']} at once, the median of the repeats; on "
        f"{found['machine']}, {found['threads']} threads."
    )
    return table(caption, HEADER, rows)
