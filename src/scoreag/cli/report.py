"""report: write the page of a run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from scoreag.cli.options import Opt, OutputOptions
from scoreag.cli.outputs import write_report


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    folder: Annotated[str, Opt("Folder of a run.", positional=True)]
    output: OutputOptions


def report(options: ReportOptions) -> None:
    """Regenerate the report.html of a run's folder from its rows and images.

    scoreag report runs/gat
    """
    folder = Path(options.folder)
    page = write_report(folder)
    if options.output.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    options.output.say(f"open {page}")
