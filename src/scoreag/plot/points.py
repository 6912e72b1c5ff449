"""Metrics as points with intervals: the trade-off of two metrics, and curves over an option."""

import math
from collections.abc import Sequence
from typing import Any

from scoreag.plot._canvas import get_axes, style_of
from scoreag.plot.measurements import (
    LABELS,
    METRICS,
    Measurement,
    Source,
    find_metric,
    interval_of,
    read_measurements,
)

SHARES = ("accuracy", "clean_accuracy", "success", "label_preserved", "success_label_preserved",
          "certified_accuracy")  # fmt: skip
LOGARITHMIC = ("attack_scale", "similarity")


def tradeoff(
    runs: Source,
    x: str = "label_preserved",
    y: str = "success",
    *,
    interval: str = "wilson",
    ax: Any = None,
) -> Any:
    """One metric against another: a point a setting, with 95 % intervals of both.

    Settings of one attack are joined by a line.

    Args:
        runs: a ``Result``, the folder of a task or an assessment, a list of these, or a mapping
            from the names of the curves to these.
        x, y: accuracy, success (of the images that were correct before), label_preserved,
            success_label_preserved, lpips, ssim, l0, l1, l2, linf, psnr.
        interval: of counts: "wilson" or "clopper-pearson".
        ax: the axes to draw into; by default those of a new figure.

    Returns:
        The ``matplotlib.figure.Figure``.

    Raises:
        ValueError: no run has both metrics; says which metrics there are.
    """
    points = read_measurements(runs)
    known = [one for one in points if all(find_metric(one, name) for name in (x, y))]
    if not known:
        raise ValueError(f"no run has {x} and {y}; {_measured(points)}")
    axes = get_axes(ax)
    for number, (series, members) in enumerate(_by_series(known).items()):
        entries = [(_entry(one, x), _entry(one, y)) for one in members]
        entries.sort(key=lambda pair: float(pair[0]["value"]))
        xs, ys = ([float(pair[i]["value"]) for pair in entries] for i in (0, 1))
        reach = [
            _distances([pair[i] for pair in entries], interval) for i in (0, 1)
        ]  # below and above
        axes.errorbar(
            xs, ys, xerr=reach[0], yerr=reach[1], label=series, linewidth=1, elinewidth=0.8,
            capsize=2, **style_of(number),
        )  # fmt: skip
    return _finish(axes, x, y)


def curves(
    runs: Source,
    x: str = "eps",
    y: str = "accuracy",
    *,
    interval: str = "wilson",
    ax: Any = None,
) -> Any:
    """A metric over an option, such as accuracy over eps, with 95 % intervals as bands.

    Args:
        runs: as in ``tradeoff``; also the folder of a smoothing, with ``x="radius"`` and
            ``y="certified_accuracy"``.
        x: an option of the attacks: eps, attack_scale, similarity, steps ...
        y: a metric, as in ``tradeoff``.
        interval: of counts: "wilson" or "clopper-pearson".
        ax: the axes to draw into; by default those of a new figure.

    Returns:
        The ``matplotlib.figure.Figure``.

    Raises:
        ValueError: no run has the option as a number, or the metric.
    """
    points = read_measurements(runs)
    known = [one for one in points if _is_number(one.options.get(x)) and find_metric(one, y)]
    if not known:
        options = {n for one in points for n, v in one.options.items() if _is_number(v)}
        raise ValueError(
            f"no run has the option {x} and the metric {y}; options with numbers: "
            f"{', '.join(sorted(options)) or 'none'}; {_measured(points)}"
        )
    axes = get_axes(ax)
    for number, (series, members) in enumerate(_by_series(known).items()):
        members.sort(key=lambda one: float(one.options[x]))
        xs = [float(one.options[x]) for one in members]
        entries = [_entry(one, y) for one in members]
        style = style_of(number)
        ends = [interval_of(entry, interval) for entry in entries]
        step = {"drawstyle": "steps-pre"} if x == "radius" else {}
        axes.plot(xs, [float(e["value"]) for e in entries], label=series, **style, **step)
        low, high = zip(*ends, strict=True)
        if len(xs) > 1:
            kind = "pre" if step else None
            axes.fill_between(xs, low, high, color=style["color"], alpha=0.18, lw=0, step=kind)
        else:
            axes.vlines(xs, low, high, color=style["color"], alpha=0.5)
    if x in LOGARITHMIC and min(float(one.options[x]) for one in known) > 0:
        axes.set_xscale("log")
    return _finish(axes, x, y)


def _entry(one: Measurement, name: str) -> Any:
    entry = find_metric(one, name)
    assert entry is not None  # others were left out
    return entry


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _by_series(points: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    groups: dict[str, list[Measurement]] = {}
    for one in points:
        groups.setdefault(one.series, []).append(one)
    return groups


def _distances(entries: Sequence[Any], interval: str) -> list[list[float]]:
    """How far the ends of the intervals are below and above the values."""
    ends = [(float(entry["value"]), *interval_of(entry, interval)) for entry in entries]
    below = [max(0.0, value - low) for value, low, _ in ends]
    return [below, [max(0.0, high - value) for value, _, high in ends]]


def _measured(points: Sequence[Measurement]) -> str:
    """Which metrics the runs have."""
    names = [name for name in METRICS if any(find_metric(one, name) for one in points)]
    return f"metrics of these runs: {', '.join(names) or 'none'}"


def _finish(axes: Any, x: str, y: str) -> Any:
    """Labels and legend; an axis of shares is whole, from 0 to 1."""
    axes.set_xlabel(LABELS.get(x, x.replace("_", " ")))
    axes.set_ylabel(LABELS.get(y, y))
    if x in SHARES:
        axes.set_xlim(-0.02, 1.02)
    if y in SHARES:
        axes.set_ylim(-0.02, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.15)
    axes.legend(fontsize=8, framealpha=0.7, edgecolor="none")
    return axes.figure
