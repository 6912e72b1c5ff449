"""What came out, as a page and as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from scoreag.evaluation.compare import Compared
from scoreag.evaluation.copies import Pairs
from scoreag.evaluation.pictures import of_class
from scoreag.figures.entries import Entry, no_interval, told
from scoreag.figures.features import Pixels
from scoreag.metrics.accuracy import Rate
from scoreag.report.page import Entry as Cells
from scoreag.report.page import counted, figure, page, paragraph, section, table, terms
from scoreag.report.pictures import Cell, gallery, strip
from scoreag.report.plots import Curve, curves

SHOWN = 6  # draws of a class on the page
HEADER = ("", "value", "interval", "of")
WORDS = (
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


def score_page(
    found: Mapping[str, Any], pixels: Pixels, pairs: Pairs, compared: Sequence[Compared]
) -> str:
    """The report of a score model, as one HTML file."""
    name, classes = str(found["model"]["name"]), found["classes"]
    body = [
        section("In figures", _figures("All sets of equal size.", found["figures"])),
        *_compared(compared),
        *_per_class(found["per_class"]),
        *_over_training(found["curve"]),
        section("Denoising loss", _loss(found["loss"])),
        section("Nearest training images", _neighbours(found["neighbours"]), _pairs(pairs)),
        section("Draws", gallery(_draws(pixels, classes), 15)),
        section("Time", _speed(found["speed"])),
        section("The words", terms(WORDS)),
    ]
    return page(f"How good is {name}?", [_lead(name, found["figures"])], body, found["foot"])


def classifier_page(found: Mapping[str, Any], compared: Sequence[Compared]) -> str:
    """The report of a classifier."""
    parts = [_figures(f"figures.{part}", entries) for part, entries in found["figures"].items()]
    body = [section("In figures", *parts), *_compared(compared)]
    left = [section("Not computed again", *map(paragraph, found["left"]))] if found["left"] else []
    rate = found["figures"]["test"]["accuracy"]
    lead = f"{found['model']['name']} gets {rate['count']} of {rate['total']} {rate['of']} right."
    return page(f"How good is {found['model']['name']}?", [lead], [*body, *left], found["foot"])


def text(figures: Mapping[str, Entry], compared: Sequence[Compared]) -> str:
    """A line a figure, and a line for each that the card holds."""
    width = max(len(name) for name in figures)
    lines = [f"{name.replace('_', ' '):<{width}}  {told(one)}" for name, one in figures.items()]
    return "\n".join([*lines, *map(str, compared)])


def _lead(name: str, figures: Mapping[str, Entry]) -> str:
    if "judge_accuracy" in figures:
        rate = figures["judge_accuracy"]
        return (
            f"The judge sees the class that was asked for in {rate['count']} of {rate['total']} "
            f"images that {name} drew, with nothing to guide it."
        )
    first = next(iter(figures))
    return f"{first.replace('_', ' ')}: {told(figures[first])}."


def _figures(caption: str, figures: Mapping[str, Entry]) -> str:
    return table(caption, HEADER, [_row(name, entry) for name, entry in figures.items()])


def _row(name: str, entry: Entry) -> list[Cells]:
    of = f"{entry['count']} of {entry['total']}" if "count" in entry else str(entry["total"])
    value = "none" if entry["value"] is None else f"{entry['value']:.4g}"
    return [name.replace("_", " "), value, _ends(entry), (of, entry["of"])]


def _ends(entry: Entry) -> Cells:
    if "low" not in entry:
        return no_interval(entry)
    return f"{entry['low']:.4g} to {entry['high']:.4g}", entry.get("interval", "Wilson, 95 %")


def _compared(compared: Sequence[Compared]) -> list[str]:
    if not compared:
        return []
    words = {True: "reproduced", False: "not reproduced", None: "not compared"}
    rows: list[list[Cells]] = [
        [one.name, f"{one.card:.6g}", (f"{one.now:.6g}", f"{one.low:.6g} to {one.high:.6g}"),
         (words[one.reproduced], one.why)]
        for one in compared
    ]  # fmt: skip
    header = ("", "on the card", "now", "outcome")
    return [section("What the card says", table("Then and now.", header, rows))]


def _per_class(classes: Mapping[str, Mapping[str, Entry]]) -> list[str]:
    if not classes:
        return []
    header = ("", *next(iter(classes.values())))
    rows: list[list[Cells]] = [
        [name, *(counted(Rate(e["count"], e["total"], e["of"])) for e in found.values())]
        for name, found in classes.items()
    ]
    caption = "Images of which the judge says the class that they were asked to show, or show."
    return [section("Class by class", table(caption, header, rows))]


def _over_training(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each figure over the images that the model had seen, where there are several models."""
    if len(points) < 2:
        return []
    names = [name for name in points[0]["figures"] if not name.startswith("precision")]
    drawings = [_curve(points, name) for name in names]
    rows: list[list[Cells]] = [
        [f"{p['name']}, {p['images_seen']} images seen", *(_value(p, name) for name in names)]
        for p in points
    ]
    header = ("", *(name.replace("_", " ") for name in names))
    return [section("Over the training", *drawings, table("The same images.", header, rows))]


def _curve(points: Sequence[Mapping[str, Any]], name: str) -> str:
    x = [p["images_seen"] for p in points]
    entries = [p["figures"][name] for p in points]
    y, low, high = ([one.get(e, one["value"]) for one in entries] for e in ("value", "low", "high"))
    words = name.replace("_", " ")
    drawing = curves([Curve(words, x, y, low, high)], "images seen", words, alt=words)
    return figure(drawing, f"{words}, with its 95 % interval, over the images seen in training")


def _value(point: Mapping[str, Any], name: str) -> Cells:
    entry = point["figures"][name]
    ends = f"{entry['low']:.4g} to {entry['high']:.4g}" if "low" in entry else no_interval(entry)
    return f"{entry['value']:.4g}", ends


def _loss(found: Mapping[str, Any]) -> str:
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
    drawing = curves(lines, "noise level sigma", "loss", alt=words, log_x=True)
    total = found["test"][0]["total"]
    return figure(drawing, f"The {words}: mean of {total} and its 95 % interval, the same noise")


def _neighbours(found: Mapping[str, Any]) -> str:
    rows = [
        _row(f"{of}: {share.replace('_', ' ')}, in {space}", entry)
        for space, sets in found.items()
        for of, entries in sets.items()
        for share, entry in entries.items()
    ]
    caption = (
        "Distance to the nearest training image: Euclidean, pixels in [0, 1], or between features. "
        "A model that copies comes nearer than test images do."
    )
    return table(caption, HEADER, rows)


def _pairs(pairs: Pairs) -> str:
    strips = [
        strip(
            f"distance {distance:.3g}",
            [Cell(ours, "draw", "a draw"), Cell(theirs, "training image", "a training image")],
        )
        for ours, theirs, distance in zip(pairs.drawn, pairs.training, pairs.distance, strict=True)
    ]
    return gallery(strips, 10)


def _draws(pixels: Pixels, classes: Sequence[str]) -> list[str]:
    named = classes or ("draws",)
    return [
        strip(name, [Cell(image, "", f"a draw: {name}") for image in some])
        for number, name in enumerate(named)
        if len(some := of_class(pixels, number, len(classes))[:SHOWN])
    ]


def _speed(found: Mapping[str, Any]) -> str:
    rows = [_row(f"{calls} denoiser calls", entry) for calls, entry in found["seconds"].items()]
    caption = (
        f"Seconds an image, {found['images_at_once']} at once, the median of the repeats; on "
        f"{found['machine']}, {found['threads']} threads."
    )
    return table(caption, HEADER, rows)
