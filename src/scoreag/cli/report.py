"""report: write the page of a run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from scoreag.cli.options import OutputOptions
from scoreag.cli.outputs import write_report


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    folder: Annotated[str, typer.Argument(help="Folder of a run.", show_default=False)]
    output: OutputOptions


def report(options: ReportOptions) -> None:
    """Regenerate the report.html of a run's folder from its rows and images."""
    folder = Path(options.folder)
    page = write_report(folder)
    if options.output.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    options.output.say(f"open {page}")
