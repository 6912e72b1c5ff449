"""What all figures share: a canvas that no global state knows, colors and markers."""

import sys
from importlib import import_module
from typing import Any

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Any:
    """A figure outside pyplot, of that size in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        figure = import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError("matplotlib is missing; pip install matplotlib") from error
    if "ipykernel" in sys.modules:
        import_module("matplotlib.pyplot")  # with it, notebooks learn to show a figure
    return figure.Figure(figsize=(width, height), layout="constrained")


def get_axes(ax: Any, width: float = 5.4, height: float = 3.6) -> Any:
    """``ax``, or the axes of a new figure."""
    return new_figure(width, height).add_subplot() if ax is None else ax


def style_of(number: int) -> dict[str, Any]:
    """Color and marker of the curve with this number; curves differ not by color alone."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[(number + number // len(COLORS)) % len(MARKERS)],
        "markersize": 4,
    }
