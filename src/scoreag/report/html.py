"""HTML pages by jinja2: one file each, without network, fonts and scripts; their charts and images.

Autoescaping is on, so names of models, classes and files cannot become markup. Only the curves of
``plot_curves`` are marked as safe.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, TypeAlias

import matplotlib
from jaxtyping import UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from scoreag.io.manifest import flatten
from scoreag.io.records import Row
from scoreag.report.table_export import FieldValue, format_value
from scoreag.stats.estimates import MetricEntry

Pixels: TypeAlias = UInt8[Tensor, "channel height width"]
TableCell: TypeAlias = str | tuple[str, str]  # text, or text with smaller text below it

BASELINE = "_floor"  # ends the name of a metric of training images
TEMPLATES = Environment(
    loader=PackageLoader("scoreag.report"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
)
CIRCUMSTANCES = (  # entries of a manifest that determine no result, or are shown elsewhere
    "versions", "machine", "started", "finished", "format", "images", "image_ids", "classes",
    "probe", "seal",
)  # fmt: skip
FOOTER_KEYS = (
    "versions.scoreag", "versions.torch", "machine.processor", "machine.cores", "started",
)  # fmt: skip
TEXT_COLOR = "#010203"  # like the next ones, a placeholder for a color of the page
SERIES_COLORS = ("#010101", "#020202", "#030303", "#040404")
LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")  # curves differ not by color alone
MARKERS = ("o", "s", "^", "D")
MAX_CURVES = len(SERIES_COLORS) * len(MARKERS)
RC_PARAMS: dict[Any, Any] = {  # so that the page sets the fonts, and equal data give equal bytes
    "svg.hashsalt": "scoreag", "svg.fonttype": "none", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        TEXT_COLOR,
    ),
}  # fmt: skip
MARKS = {  # by whether an outcome is good: the class in the style sheet, and the sign
    True: ("good", "\N{CHECK MARK}"),
    False: ("bad", "\N{MULTIPLICATION X}"),
    None: ("note", "\N{EN DASH}"),
}


def render_page(template: str, **view: Any) -> str:
    """``templates/TEMPLATE.html.jinja`` with a title, lead, footer and its own data."""
    return TEMPLATES.get_template(f"{template}.html.jinja").render(view)


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a class, or its number where it has none; "rejected" below 0."""
    if label < 0:
        return "rejected"
    return classes[label] if label < len(classes) else f"class {label}"


def list_config(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The entries of a manifest that determine the result."""
    fixed = {name: value for name, value in manifest.items() if name not in CIRCUMSTANCES}
    entries = [(name, value) for name, value in flatten(fixed) if value not in (None, {}, [])]
    return [(name, shorten(str(value), 200, placeholder=" ...")) for name, value in entries]


def describe_environment(manifest: Mapping[str, Any]) -> str:
    """Versions, machine and start of a run, for the footer of a page."""
    values = dict(flatten(manifest))
    names = [name for name in FOOTER_KEYS if values.get(name)]
    return ", ".join(f"{name.rpartition('.')[2]} {values[name]}" for name in names)


def metric_label(name: str) -> str:
    """The name of a metric in words."""
    words = name.removesuffix(BASELINE).replace("_", " ")
    return f"{words}, training-set baseline" if name.endswith(BASELINE) else words


def table_cell(field: FieldValue | tuple[str, str]) -> TableCell:
    """A field of a table as text, or as text and smaller text."""
    if isinstance(field, str | tuple):
        return field
    value, small = format_value(field)
    return (value, small) if small else value


TEMPLATES.filters |= {
    "class_name": class_name, "metric_label": metric_label, "table_cell": table_cell,
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A figure with its caption."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Curve:
    """Points joined by a line; ``low`` and ``high`` bound a band around it."""

    name: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    low: Sequence[float | int] | None = None
    high: Sequence[float | int] | None = None


def metric_curve(name: str, x: Sequence[float | int], entries: Sequence[MetricEntry]) -> Curve:
    """Metrics, with their intervals as a band."""
    y, low, high = (
        [float(entry.get(key, entry["value"]) or 0) for entry in entries]
        for key in ("value", "low", "high")
    )
    return Curve(name, x, y, low, high)


def plot_curves(
    lines: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    alt: str,
    log_x: bool = False,
    steps: bool = False,
    mark: tuple[float | int, str] | None = None,
) -> Markup:
    """An ``<svg>`` element of up to ``MAX_CURVES`` curves; a single point has an error bar.

    Args:
        steps: y is constant from its x to the next, as for an empirical distribution.
        mark: a position on the x axis and its name, drawn as a thin line.
    """
    if len(lines) > MAX_CURVES:
        raise ValueError(f"{len(lines)} curves in one figure; show at most {MAX_CURVES}")
    many = len(lines) > len(SERIES_COLORS)
    file = io.StringIO()
    with matplotlib.rc_context(RC_PARAMS):
        drawing = Figure(figsize=(5.4, 4.2 if many else 3.2), layout="constrained")
        axes = drawing.add_subplot(xlabel=x_label, ylabel=y_label)
        for i, line in enumerate(lines):
            round_, place = divmod(i, len(SERIES_COLORS))
            color, style = SERIES_COLORS[place], LINE_STYLES[(place + round_) % len(LINE_STYLES)]
            shape: dict[str, Any] = {"marker": MARKERS[round_]}
            if steps:
                shape = {"drawstyle": "steps-post"}
            axes.plot(
                line.x, line.y, color=color, linestyle=style, markersize=4, label=line.name, **shape
            )
            if line.low is not None and line.high is not None:
                _draw_band(axes, line, color)
        if mark:
            dots = (0, (1, 3))
            axes.axvline(mark[0], color=TEXT_COLOR, linewidth=0.8, linestyle=dots, label=mark[1])
        if log_x:
            axes.set_xscale("log")
        axes.grid(color=TEXT_COLOR, alpha=0.12)
        if many:
            drawing.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=8)
        else:
            axes.legend(frameon=False)
        metadata = {"Date": None, "Creator": None}
        drawing.savefig(file, format="svg", transparent=True, metadata=metadata)
    return _make_inline(file.getvalue(), alt)


def _draw_band(axes: Any, line: Curve, color: str) -> None:
    """The interval around a curve, or around its only point."""
    low, high = line.low or (), line.high or ()
    if len(line.x) > 1:
        axes.fill_between(line.x, low, high, color=color, alpha=0.18, linewidth=0)
    else:
        axes.vlines(line.x, low, high, color=color, alpha=0.5, linewidth=1)


def _make_inline(svg: str, alt: str) -> Markup:
    """Only the element, with the colors of the page and an alternative text."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| width="[\d.]+pt"| height="[\d.]+pt"', "", svg, count=4)
    svg = svg.replace(TEXT_COLOR, "currentColor")
    for i, color in enumerate(SERIES_COLORS, 1):
        svg = svg.replace(color, f"var(--series-{i})")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", svg)
    head = Markup('<svg role="img" aria-label="{}"').format(alt)
    return Markup(svg.replace("<svg", head, 1))


@dataclass(frozen=True)
class ImageCell:
    """One image and its caption.

    Args:
        lines: who predicts what, e.g. ("classifier", "cat").
        outcome: such as "fooled", after a tick, a cross, or a dash as ``good`` says.
    """

    pixels: Pixels
    name: str
    alt: str
    lines: Sequence[tuple[str, str]] = ()
    outcome: str = ""
    good: bool | None = True

    @property
    def src(self) -> str:
        return data_uri(self.pixels)

    @property
    def mark(self) -> tuple[str, str]:
        """The class of the mark in the style sheet, and its sign."""
        return MARKS[self.good]


@dataclass(frozen=True)
class Strip:
    """Versions of one image, shown in a row under a title."""

    title: str
    cells: Sequence[ImageCell]


def strip_of_row(
    row: Row,
    read: Callable[[str], Pixels],
    classes: Sequence[str],
    judges: Sequence[Mapping[str, Any]],
    mark: tuple[str, bool | None],
    with_label: bool = True,
) -> Strip:
    """The original image of a row, if it has one, and the saved one, with all predictions.

    Args:
        read: reads the picture of the row's field ``PREFIXfile``.
        judges: the predictions of each reference classifier, before and saved.
        mark: the outcome of the saved image, and whether it is a good one.
    """

    def cell(name: str, form: str, prefix: str, mark: tuple[str, bool | None]) -> ImageCell:
        labels = [("classifier", row["predictions"][form])]
        labels += [("target", row["target"])] if form == "saved" else []
        labels += [("reference", judge.get(form)) for judge in judges]
        lines = [(who, class_name(label, classes)) for who, label in labels if label is not None]
        alt = "; ".join([name, *(f"{who}: {word}" for who, word in lines)])
        return ImageCell(read(prefix), name, alt, lines, *mark)

    cells = [cell("original", "before", "original_", ("", None))] if "original_file" in row else []
    cells.append(cell("result", "saved", "", mark))
    has_label = with_label and row["label"] is not None
    label = f"{class_name(row['label'], classes)}, " if has_label else ""
    return Strip(f"{label}image {row['image_id']}", cells)


def data_uri(pixels: Pixels) -> str:
    """The image as a PNG in a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
