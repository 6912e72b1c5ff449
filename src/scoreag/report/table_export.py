"""Tables beside a page: CSV and JSON for machines, Markdown and LaTeX for papers."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from scoreag.io.filesystem import write_text
from scoreag.stats.estimates import missing_interval_reason

FieldValue: TypeAlias = str | float | int | Mapping[str, Any] | None  # words, a number, or an entry
_LATEX = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first field of each names it.

    Args:
        name: of its files; ``caption``: what the figures are of.
    """

    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[FieldValue]]


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Each table as NAME.csv, .json, .md and .tex."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        for suffix, text in (
            ("csv", to_csv(table)),
            ("json", to_json(table)),
            ("md", to_markdown(table)),
            ("tex", to_latex(table)),
        ):
            write_text(folder / f"{table.name}.{suffix}", text)


def format_value(field: FieldValue) -> tuple[str, str]:
    """A field in words, and in smaller print its interval and what it is of."""
    if field is None or (isinstance(field, Mapping) and field.get("value") is None):
        return "", ""
    if not isinstance(field, Mapping):
        return (f"{field:.4g}" if isinstance(field, float) else str(field)), ""
    if "count" in field:
        low, high = 100 * field["low"], 100 * field["high"]
        share = f"{100 * field['value']:.0f} %"
        return share, f"{field['count']} of {field['total']}, {low:.0f} to {high:.0f} %"
    if field.get("unit") == "share":
        return f"{100 * field['value']:.0f} %", _format_interval(field, 100, ".0f", " %")
    return f"{field['value']:.3g}", _format_interval(field, 1, ".3g")


def _format_interval(
    field: Mapping[str, Any], scale: int, number_format: str, unit: str = ""
) -> str:
    """The ends of an interval, or why there is none."""
    if "low" not in field:
        return missing_interval_reason(field)
    return (
        f"{scale * field['low']:{number_format}} to {scale * field['high']:{number_format}}{unit}"
    )


def to_csv(table: Table) -> str:
    """An entry takes columns of its own: value, ends of the interval, number of images."""
    wide = [any(isinstance(row[i], Mapping) for row in table.rows) for i in _column_range(table)]
    header = []
    for name, spread in zip(table.header, wide, strict=True):
        header += [name, f"{name} low", f"{name} high", f"{name} of"] if spread else [name]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_escape_formula, header))
    for row in table.rows:
        values: list[Any] = []
        for field, spread in zip(row, wide, strict=True):
            values += _expand_entry(field) if spread else [field]
        writer.writerow(map(_escape_formula, values))
    return file.getvalue()


def _escape_formula(value: Any) -> Any:
    """Words that a spreadsheet would take for a formula, behind an apostrophe; numbers as such."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"[\r\n]", " ", value)
    return f"'{line}" if re.match(r"\t|\s*[=+@-]", line) else line


def _expand_entry(field: FieldValue) -> list[Any]:
    if not isinstance(field, Mapping):
        return [field, None, None, None]
    return [field["value"], field.get("low"), field.get("high"), field["total"]]


def to_json(table: Table) -> str:
    """A list of rows, each by the names of the header; entries whole."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    text = json.dumps({"caption": table.caption, "rows": rows}, indent=1, ensure_ascii=False)
    return text + "\n"


def to_markdown(table: Table) -> str:
    lines = [[_escape_markdown(name) for name in table.header], ["---"] * len(table.header)]
    lines += [[_escape_markdown(_format_inline(field)) for field in row] for row in table.rows]
    return "\n".join(
        [_escape_markdown(table.caption), "", *(f"| {' | '.join(line)} |" for line in lines), ""]
    )


def _escape_markdown(text: str) -> str:
    """In a line of its own, without HTML, links or pictures: names are other people's words."""
    plain = escape(" ".join(text.split()), quote=False)
    return plain.replace("|", r"\|").replace("](", r"]\(")


def to_latex(table: Table) -> str:
    """For booktabs."""
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule",
        " & ".join(map(_escape_latex, table.header)) + r" \\", r"\midrule",
        *(" & ".join(_escape_latex(_format_inline(field)) for field in row) + r" \\" for row in table.rows),
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _format_inline(field: FieldValue) -> str:
    """The value with its interval behind it."""
    value, small = format_value(field)
    if not isinstance(field, Mapping) or not value:
        return value
    if "low" not in field:
        return f"{value} ({small})" if small else value
    scale = 100 if "count" in field or field.get("unit") == "share" else 1
    return f"{value} ({scale * field['low']:.3g}-{scale * field['high']:.3g})"


def _column_range(table: Table) -> range:
    return range(len(table.header))
