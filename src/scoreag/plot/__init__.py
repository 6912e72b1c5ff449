"""Figures of results: ``scoreag.plot.grid``, ``tradeoff`` and ``curves``, by matplotlib.

Each returns a ``matplotlib.figure.Figure``: the last line of a cell shows it, and ``savefig``
writes it.  Nothing is shown, and no global setting of matplotlib is changed.
"""

from scoreag.plot.measurements import Measurement, read_measurements
from scoreag.plot.pictures import grid
from scoreag.plot.points import curves, tradeoff

__all__ = ["Measurement", "curves", "grid", "read_measurements", "tradeoff"]
