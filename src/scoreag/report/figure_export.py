"""The figures of a page as files: SVG that stands alone, for papers and slides."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from scoreag.io.filesystem import write_text
from scoreag.io.run_dir import FIGURES
from scoreag.report.plots import Chart

COLORS = {  # of the page, for paper: Okabe and Ito's, which the color-blind tell apart
    "--series-1": "#0072b2", "--series-2": "#d55e00", "--series-3": "#009e73",
    "--series-4": "#cc79a7",
}  # fmt: skip
FONT = "font-family: Helvetica, Arial, sans-serif"


def write_figures(folder: Path, charts: Mapping[str, Chart | None]) -> None:
    """Write each chart into the folder of its run, as figures/NAME.svg."""
    for name, chart in charts.items():
        if chart is not None:
            (folder / FIGURES).mkdir(parents=True, exist_ok=True)
            write_text(folder / FIGURES / f"{name}.svg", to_svg_file(chart))


def number_charts(prefix: str, charts: Sequence[Chart]) -> dict[str, Chart]:
    """The charts under the names PREFIX_01, PREFIX_02 ..."""
    return {f"{prefix}_{number:02}": chart for number, chart in enumerate(charts, 1)}


def to_svg_file(chart: Chart) -> str:
    """The ``<svg>`` element of a page as a file: with its size, names of XML, colors and a font.

    The caption is its ``<desc>``.
    """
    head, _, body = str(chart.svg).partition(">")
    box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', head)
    size = f' width="{box[1]}pt" height="{box[2]}pt"' if box else ""
    names = ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    caption = re.sub(r"[<>&]", lambda found: f"&#{ord(found[0])};", chart.caption)
    text = f"{head}{names}{size}><desc>{caption}</desc>{body}"
    for name, color in COLORS.items():
        text = text.replace(f"var({name})", color)
    text = text.replace("currentColor", "#000000").replace("font-family: inherit", FONT)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
