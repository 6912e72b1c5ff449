"""The pictures of docs/results.md that are curves, from the files in benchmarks/results."""

import json
from pathlib import Path

import matplotlib
from common import Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {"svg.hashsalt": "scoreag", "svg.fonttype": "none", "font.size": 9}
DASHES = {"euler": "dashed", "heun": "solid"}


def converging(data: Row) -> Figure:
    """Error over steps, both logarithmic: a straight line of slope -p is a method of order p."""
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(9, 3.8), layout="constrained")
        axes = drawing.subplots(1, 2, sharex=True, sharey=True)
        for place, task in zip(axes, ("GAT", "GAP"), strict=True):
            _lines(place, data[task])
            place.set(title=f"{task}, {data['few']} images", xlabel="steps")
        axes[0].set_ylabel(f"rms to {data['fine']} steps of EDM's Heun, 255ths")
        shown, names = axes[0].get_legend_handles_labels()
        drawing.legend(shown, names, loc="outside right center", frameon=False)
    return drawing


def _lines(axes: Axes, rows: list[Row]) -> None:
    kinds = list(dict.fromkeys((row["family"], row["levels"]) for row in rows))
    for row in rows:
        kind = (row["family"], row["levels"])
        name = f"{row['family'].upper()}'s ODE, {row['levels'].upper()}'s levels, {row['solver']}"
        axes.loglog(
            row["steps"], row["rms_255"], color=f"C{kinds.index(kind)}", marker="o", markersize=3,
            linestyle=DASHES[row["solver"]], label=name,
        )  # fmt: skip
    axes.set_xticks(rows[0]["steps"], [str(n) for n in rows[0]["steps"]])
    axes.minorticks_off()
    axes.grid(alpha=0.2)


DRAWN = {name: converging for name in ("parametrisations", "parametrisations_cifar10")}


def picture(name: str) -> str:
    """Where the page shows the picture of a file of results; nothing, where it has none."""
    told = "Error over steps, of GAT and of GAP, for each ODE and solver"
    return f"\n![{told}](images/{name}.svg)\n" if name in DRAWN else ""


def write_pictures(results: Path, folder: Path) -> None:
    """NAME.svg for each that is drawn: the same bytes every time."""
    for name, draw in DRAWN.items():
        drawing = draw(json.loads((results / f"{name}.json").read_text()))
        with matplotlib.rc_context(STYLE):
            drawing.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
