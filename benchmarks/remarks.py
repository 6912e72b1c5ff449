"""Remarks on the tables of a page: Markdown whose numbers are looked up in the recorded results."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_parts import Row, short

HERE = Path(__file__).parent


def render_remarks(name: str, results: Path) -> str:
    """The remarks of a page; an empty text where there are none.

    Raises:
        jinja2.UndefinedError, LookupError: a remark names a number that is not recorded.
    """
    if not (HERE / "remarks" / f"{name}.md").exists():
        return ""
    # the result is Markdown, so nothing is escaped
    environment = Environment(
        loader=FileSystemLoader(HERE / "remarks"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )

    def result(file: str) -> Any:
        return json.loads((results / f"{file}.json").read_text())

    def default(file: str, classifier: str) -> Row:
        """The row of a classifier that was measured with the settings of the score model's card."""
        (row,) = (one for one in result(file)["victims"][classifier] if one["settings"] == {})
        return row

    def cell(file: str, name: str) -> Row:
        (found,) = (one for one in result(file)["cells"] if one["name"] == name)
        return found["figures"]

    def defense(file: str, purifier: str) -> Row:
        (found,) = (one for one in result(file)["defences"] if one["purifier"] == purifier)
        return found

    environment.globals.update(result=result, default=default, cell=cell, defense=defense)
    environment.filters["share"] = short
    return environment.get_template(f"{name}.md").render()
