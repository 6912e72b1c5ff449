"""study: ask people what images show."""

import typer

from scoreag.cli import study_analysis
from scoreag.cli.options import add_command

study_app = typer.Typer(
    help="Ask people what images show.", no_args_is_help=True, rich_markup_mode=None,
    epilog="\b\nExample:\n  scoreag study power --raters 5 --difference 0.05",
)  # fmt: skip
add_command(study_app, "analyze", study_analysis.analyze)
add_command(study_app, "power", study_analysis.power)
