"""Curves as inline SVG in the colors of the page; equal data give equal bytes."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scoreag.stats.estimates import MetricEntry

TEXT_COLOR = "#010203"  # it and the next are replaced by the colors of the page at the end
SERIES_COLORS = ("#010101", "#020202", "#030303", "#040404")
LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")  # no curve is known by its color alone
RC_PARAMS: dict[Any, Any] = {"svg.hashsalt": "scoreag", "svg.fonttype": "none", "font.size": 10}


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
    """Metrics with their intervals as a band."""
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
    """An ``<svg>`` element of up to four curves.

    Args:
        steps: y holds from its x to the next, as for an empirical distribution.
        mark: a position on the x axis and its name, drawn as a thin line.
    """
    if len(lines) > len(SERIES_COLORS):
        raise ValueError(f"{len(lines)} curves in one figure; show at most {len(SERIES_COLORS)}")
    drawing = Figure(figsize=(5.4, 3.2), layout="constrained")
    axes = drawing.add_subplot()
    for line, color, dash in zip(lines, SERIES_COLORS, LINE_STYLES, strict=False):
        _plot_curve(axes, line, color, dash, "steps-post" if steps else "default")
    if mark:
        axes.axvline(mark[0], color=TEXT_COLOR, linewidth=0.8, linestyle=(0, (1, 3)), label=mark[1])
    if log_x:
        axes.set_xscale("log")
    _style_axes(axes, x_label, y_label)
    return _make_inline(_render_svg(drawing), alt)


def _plot_curve(axes: Axes, line: Curve, color: str, linestyle: str, drawstyle: str) -> None:
    marker = "o" if drawstyle == "default" else None
    axes.plot(
        line.x, line.y, color=color, linestyle=linestyle, marker=marker, markersize=4,
        drawstyle=drawstyle, label=line.name,
    )  # fmt: skip
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)


def _style_axes(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=TEXT_COLOR)
    axes.set_ylabel(y_label, color=TEXT_COLOR)
    axes.tick_params(colors=TEXT_COLOR, which="both")
    axes.grid(color=TEXT_COLOR, alpha=0.12)
    for side, spine in axes.spines.items():
        spine.set(color=TEXT_COLOR, visible=side in ("left", "bottom"))
    axes.legend(frameon=False, labelcolor=TEXT_COLOR)


def _render_svg(drawing: Figure) -> str:
    """Without date and fonts, so that equal figures have equal bytes."""
    file = io.StringIO()
    with matplotlib.rc_context(RC_PARAMS):
        drawing.savefig(
            file, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return file.getvalue()


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
