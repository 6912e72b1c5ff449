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

FieldValue: TypeAlias = str | float | int | Mapping[str, Any] | None  # a mapping: a MetricEntry
_LATEX = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first field of a row is its name.

    Args:
        name: the stem of the files.
        title: the heading of the table's section on a page.
    """

    name: str
    title: str
    caption: str
    header: Sequence[str]
    rows: list[list[FieldValue]]


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write each table as NAME.csv, .json, .md and .tex."""
    folder.mkdir(parents=True, exist_ok=True)
    formats = {"csv": to_csv, "json": to_json, "md": to_markdown, "tex": to_latex}
    for table in tables:
        for suffix, convert in formats.items():
            write_text(folder / f"{table.name}.{suffix}", convert(table))


def format_value(field: FieldValue) -> tuple[str, str]:
    """A field as text, and its denominator and interval as smaller text."""
    if field is None or (isinstance(field, Mapping) and field.get("value") is None):
        return "", ""
    if not isinstance(field, Mapping):
        return (f"{field:.4g}" if isinstance(field, float) else str(field)), ""
    if not _is_share(field):
        return f"{field['value']:.3g}", _format_interval(field, ".3g")
    interval = _format_interval(field, ".0f") + (" %" if "low" in field else "")
    count = f"{field['count']} of {field['total']}, " if "count" in field else ""
    return f"{100 * field['value']:.0f} %", count + interval


def _is_share(field: Mapping[str, Any]) -> bool:
    """Whether a metric is shown in per cent."""
    return "count" in field or field.get("unit") == "share"


def _format_interval(field: Mapping[str, Any], digits: str, to: str = " to ") -> str:
    """The ends of an interval, or why there is none."""
    if "low" not in field:
        return missing_interval_reason(field)
    scale = 100 if _is_share(field) else 1
    return f"{scale * field['low']:{digits}}{to}{scale * field['high']:{digits}}"


def to_csv(table: Table) -> str:
    """A metric has four columns: value, ends of the interval, number of images."""
    columns: list[list[Any]] = []
    for name, *fields in zip(table.header, *table.rows, strict=True):
        columns.append([name, *fields])
        if any(isinstance(field, Mapping) for field in fields):
            metrics = [
                field if isinstance(field, Mapping) else {"value": field} for field in fields
            ]
            columns[-1] = [name, *(metric["value"] for metric in metrics)]
            for title, key in (("low", "low"), ("high", "high"), ("of", "total")):
                columns.append([f"{name} {title}", *(metric.get(key) for metric in metrics)])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows(map(_escape_formula, row) for row in zip(*columns, strict=True))
    return file.getvalue()


def _escape_formula(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"[\r\n]", " ", value)
    return f"'{line}" if re.match(r"\t|\s*[=+@-]", line) else line


def to_json(table: Table) -> str:
    """Rows by the names of the header; metrics with all their fields."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    text = json.dumps({"caption": table.caption, "rows": rows}, indent=1, ensure_ascii=False)
    return text + "\n"


def to_markdown(table: Table) -> str:
    header, *rows = (
        f"| {' | '.join(_escape_markdown(_format_inline(field)) for field in row)} |"
        for row in (table.header, *table.rows)
    )
    rule = f"| {' | '.join(['---'] * len(table.header))} |"
    return "\n".join([_escape_markdown(table.caption), "", header, rule, *rows, ""])


def _escape_markdown(text: str) -> str:
    """One line without HTML, links or pictures, as names may come from others."""
    plain = escape(" ".join(text.split()), quote=False)
    return plain.replace("|", r"\|").replace("](", r"]\(")


def to_latex(table: Table) -> str:
    """A booktabs table."""
    header, *rows = (
        " & ".join(_format_inline(field).translate(_LATEX) for field in row) + r" \\"
        for row in (table.header, *table.rows)
    )
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{table.caption.translate(_LATEX)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule",
        header, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _format_inline(field: FieldValue) -> str:
    """The value with its interval in parentheses."""
    value, small = format_value(field)
    if not isinstance(field, Mapping) or not small:
        return value
    return f"{value} ({_format_interval(field, '.3g', '-')})"
