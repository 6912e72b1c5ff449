"""Charts of curves: inline SVG with a title on each point."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from scoreag.stats.estimates import MetricEntry

TEXT_COLOR = "#010203"  # like the next ones, a placeholder for a color of the page
SERIES_COLORS = ("#010101", "#020202", "#030303", "#040404")
LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")  # curves differ not by color alone
MARKERS = ("o", "s", "^", "D")
MAX_CURVES = len(SERIES_COLORS) * len(MARKERS)
MAX_POINTS = 60  # of a curve with titles, and of a figure that lists them
SHARES = (  # labels of y axes that run from 0 to 1
    "fraction", "fraction of images", "probability", "robust accuracy", "attack success",
    "fooled, label preserved",
)  # fmt: skip
POINT_RADIUS = 6  # of the area around a point that shows its title
POINT = Markup(
    '<circle class="point" fill="none" pointer-events="all" cx="{}" cy="{}" r="{}">'
    "<title>{}</title></circle>"
)
RC_PARAMS: dict[Any, Any] = {  # so that the page sets the fonts, and equal data give equal bytes
    "svg.hashsalt": "scoreag", "svg.fonttype": "none", "font.size": 10,
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
    """A figure with its caption."""

    svg: Markup
    caption: str


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

    Each point has a title, of at most ``MAX_POINTS`` a curve.  The y axis of a share is whole.

    Args:
        steps: y is constant from its x to the next, as for an empirical distribution.
        mark: a position on the x axis and its name, drawn as a thin line.
    """
    if len(lines) > MAX_CURVES:
        raise ValueError(f"{len(lines)} curves in one figure; show at most {MAX_CURVES}")
    many, file = len(lines) > len(SERIES_COLORS), io.StringIO()
    with matplotlib.rc_context(RC_PARAMS):
        height = 4.2 if many else 3 + 0.2 * len(lines)  # the legend is below the axes
        drawing = Figure(figsize=(5.4, height), layout="constrained")
        axes = drawing.add_subplot(xlabel=x_label, ylabel=y_label)
        for i, line in enumerate(lines):
            _draw_curve(axes, line, i, len(lines), steps)
        if mark:
            dots = (0, (1, 3))
            axes.axvline(mark[0], color=TEXT_COLOR, linewidth=0.8, linestyle=dots, label=mark[1])
        if log_x:
            axes.set_xscale("log")
        if y_label in SHARES:
            axes.set_ylim(0, 1)
        axes.grid(color=TEXT_COLOR, alpha=0.12)
        if len(lines) > 1 or mark:
            shape = {"ncols": 3, "fontsize": 8} if many else {"ncols": 1, "fontsize": 9}
            drawing.legend(frameon=False, loc="outside lower center", **shape)
        metadata = {"Date": None, "Creator": None}
        drawing.savefig(file, format="svg", transparent=True, metadata=metadata)
    points = [point for line in lines for point in _title_points(line, x_label, y_label, drawing)]
    return _make_inline(file.getvalue(), alt, Markup("\n").join(points))


def _draw_curve(axes: Any, line: Curve, i: int, count: int, steps: bool) -> None:
    """A curve with its markers; those drawn first are larger, so that equal points all show."""
    round_, place = divmod(i, len(SERIES_COLORS))
    color, style = SERIES_COLORS[place], LINE_STYLES[(place + round_) % len(LINE_STYLES)]
    size = 4 + 1.5 * min(count - 1 - i, 3)
    shape: dict[str, Any] = {"marker": MARKERS[round_], "markersize": size, "clip_on": False}
    if steps:
        shape = {"drawstyle": "steps-post"}
    axes.plot(line.x, line.y, color=color, linestyle=style, label=line.name, **shape)
    if line.low is None or line.high is None:
        return
    if len(line.x) > 1:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    else:
        axes.vlines(line.x, line.low, line.high, color=color, alpha=0.5, linewidth=1)


def _title_points(line: Curve, x_label: str, y_label: str, drawing: Figure) -> Iterator[Markup]:
    """An invisible circle on each point, with its curve and its values as a title."""
    (axes,) = drawing.axes
    width, height = (72 * size for size in drawing.get_size_inches())
    to_fraction = axes.transData + drawing.transFigure.inverted()
    for i in range(0, len(line.x), max(1, -(-len(line.x) // MAX_POINTS))):
        x, y = to_fraction.transform((line.x[i], line.y[i]))
        title = f"{line.name}: {x_label} {line.x[i]:.4g}, {y_label} {line.y[i]:.3g}"
        if line.low is not None and line.high is not None:
            title += f" ({line.low[i]:.3g} to {line.high[i]:.3g})"
        yield POINT.format(f"{x * width:.1f}", f"{(1 - y) * height:.1f}", POINT_RADIUS, title)


def list_points(svg: Markup) -> list[Markup]:
    """The titles of the points, for a list below the figure; none where they are many."""
    titles = [Markup(title) for title in re.findall(r"<title>(.*?)</title></circle>", svg)]
    return titles if len(titles) <= MAX_POINTS else []


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
