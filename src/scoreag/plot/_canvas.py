"""What all figures share: a canvas that no global state knows, colors and markers."""

from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


class NotebookFigure(Figure):
    """A figure outside pyplot that a notebook shows once, as the last value of a cell."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png", dpi=110)
        return file.getvalue()


def new_figure(width: float, height: float) -> NotebookFigure:
    """A figure of that size in inches."""
    return NotebookFigure(figsize=(width, height), layout="constrained")


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
