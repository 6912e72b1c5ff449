"""Charts of curves: inline SVG with a title on each point, its values, and files for papers."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from scoreag.io.filesystem import atomic_write, write_text
from scoreag.report.table_export import FieldValue, Table, to_csv
from scoreag.stats.estimates import MetricEntry

TEXT_COLOR = "#010203"  # like the next ones, a placeholder for a color of the page
SERIES_COLORS = ("#010101", "#020202", "#030303", "#040404")
PAPER_COLORS = ("#1f5fa8", "#b2481d", "#0b6b4f", "#7a3f96")  # of the series, in a file
LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")  # curves differ not by color alone
MARKERS = ("o", "s", "^", "D")
MAX_CURVES = len(SERIES_COLORS) * len(MARKERS)
MAX_POINTS = 60  # of a chart whose values are listed, and of a curve whose points have titles
POINT_RADIUS = 6  # of the area around a point that shows its title
POINT = Markup('<circle class="point" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
RC_PARAMS: dict[Any, Any] = {  # so that the page sets the fonts, and equal data give equal bytes
    "svg.hashsalt": "scoreag", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        TEXT_COLOR,
    ),
}  # fmt: skip


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


@dataclass(frozen=True)
class Chart:
    """Up to ``MAX_CURVES`` curves with a caption; a single point has an error bar.

    Args:
        name: the stem of its files.
        alt: the text in place of the picture.
        steps: y is constant from its x to the next, as for an empirical distribution.
        mark: a position on the x axis and its name, drawn as a thin line.
        is_fraction: y is drawn from 0 to 1.
    """

    name: str
    caption: str
    lines: Sequence[Curve]
    x_label: str
    y_label: str
    alt: str
    log_x: bool = False
    steps: bool = False
    mark: tuple[float | int, str] | None = None
    is_fraction: bool = False

    def __post_init__(self) -> None:
        if len(self.lines) > MAX_CURVES:
            raise ValueError(f"{len(self.lines)} curves in one figure; show at most {MAX_CURVES}")

    @cached_property
    def svg(self) -> Markup:
        """An ``<svg>`` element in the colors of the page, with a title on each point."""
        drawing, picture = self._drawn
        return _make_inline(picture, self.alt, _point_titles(self, drawing))

    @cached_property
    def _drawn(self) -> tuple[Figure, str]:
        drawing, file = draw_chart(self), io.StringIO()
        with matplotlib.rc_context(RC_PARAMS):
            metadata = {"Date": None, "Creator": None}
            drawing.savefig(file, format="svg", transparent=True, metadata=metadata)
        return drawing, file.getvalue()

    @property
    def values(self) -> Table:
        """A row per point: curve, x, y, and the interval, where any curve has one."""
        has_interval = any(line.low is not None for line in self.lines)
        rows: list[list[FieldValue]] = []
        for line in self.lines:
            ends = [line.low, line.high] if has_interval else []
            for i, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
                interval = [None if end is None else float(end[i]) for end in ends]
                rows.append([line.name, float(x), float(y), *interval])
        header = ["curve", self.x_label, self.y_label, *(("low", "high") if has_interval else ())]
        return Table(self.name, self.caption, self.caption, header, rows)

    @property
    def has_values(self) -> bool:
        """Whether the page lists the values: only where they are few."""
        return sum(len(line.x) for line in self.lines) <= MAX_POINTS

    def write(self, folder: Path) -> None:
        """Write NAME.svg and NAME.pdf in the colors of paper, and the values as NAME.csv."""
        folder.mkdir(parents=True, exist_ok=True)
        picture = self._drawn[1]
        for placeholder, color in zip(SERIES_COLORS, PAPER_COLORS, strict=True):
            picture = picture.replace(placeholder, color)
        write_text(folder / f"{self.name}.svg", picture)
        write_text(folder / f"{self.name}.csv", to_csv(self.values))
        file = io.BytesIO()
        with matplotlib.rc_context(RC_PARAMS):
            drawing = draw_chart(self, PAPER_COLORS)
            drawing.savefig(file, format="pdf", metadata={"CreationDate": None})
        atomic_write(folder / f"{self.name}.pdf", lambda path: path.write_bytes(file.getvalue()))


def draw_chart(chart: Chart, colors: Sequence[str] = SERIES_COLORS) -> Figure:
    """The chart; by default with placeholders for the colors of the page."""
    many, lines = len(chart.lines) > len(SERIES_COLORS), chart.lines
    with matplotlib.rc_context(RC_PARAMS):
        drawing = Figure(figsize=(5.4, 4.2 if many else 3.2), layout="constrained")
        axes = drawing.add_subplot(xlabel=chart.x_label, ylabel=chart.y_label)
        for i, line in enumerate(lines):
            _draw_curve(axes, chart, i, line, colors)
        if chart.mark:
            x, name = chart.mark
            dots = (0, (1, 3))
            axes.axvline(x, color=TEXT_COLOR, linewidth=0.8, linestyle=dots, label=name)
        if chart.log_x:
            axes.set_xscale("log")
        if chart.is_fraction:
            axes.set_ylim(0, 1)
        axes.grid(color=TEXT_COLOR, alpha=0.12)
        if many:
            drawing.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=8)
        elif len(lines) > 1 or chart.mark:
            axes.legend(frameon=False)
    return drawing


def _draw_curve(axes: Any, chart: Chart, i: int, line: Curve, colors: Sequence[str]) -> None:
    """A curve with its markers; those drawn first are larger, so that equal points all show."""
    round_, place = divmod(i, len(SERIES_COLORS))
    color, style = colors[place], LINE_STYLES[(place + round_) % len(LINE_STYLES)]
    size = 4 + 1.5 * min(len(chart.lines) - 1 - i, 3)
    shape: dict[str, Any] = {"marker": MARKERS[round_], "markersize": size, "clip_on": False}
    if chart.steps:
        shape = {"drawstyle": "steps-post"}
    axes.plot(line.x, line.y, color=color, linestyle=style, label=line.name, **shape)
    if line.low is None or line.high is None:
        return
    if len(line.x) > 1:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    else:
        axes.vlines(line.x, line.low, line.high, color=color, alpha=0.5, linewidth=1)


def _point_titles(chart: Chart, drawing: Figure) -> Markup:
    """A transparent circle on each point, with its curve and its values as a title."""
    (axes,) = drawing.axes
    width, height = (72 * size for size in drawing.get_size_inches())
    to_fraction = axes.transData + drawing.transFigure.inverted()
    circles = []
    for line in chart.lines:
        stride = -(-len(line.x) // MAX_POINTS)
        for i in range(0, len(line.x), max(1, stride)):
            x, y = to_fraction.transform((line.x[i], line.y[i]))
            title = f"{line.name}: {chart.x_label} {line.x[i]:.4g}, {chart.y_label} {line.y[i]:.3g}"
            if line.low is not None and line.high is not None:
                title += f" ({line.low[i]:.3g} to {line.high[i]:.3g})"
            place = (f"{x * width:.1f}", f"{(1 - y) * height:.1f}", POINT_RADIUS)
            circles.append(POINT.format(*place, title))
    return Markup("\n").join(circles)


def _make_inline(svg: str, alt: str, points: Markup) -> Markup:
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
    whole = svg.replace("<svg", head, 1)
    return Markup(whole.replace("</svg>", f"{points}\n</svg>", 1))
