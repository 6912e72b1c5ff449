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
    """Rows under a header; the first field of each names it.

    Args:
        name: the stem of its files.
        title: the heading of the page's section that shows it.
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
    """A field as text, and its interval and denominator as smaller text."""
    if field is None or (isinstance(field, Mapping) and field.get("value") is None):
        return "", ""
    if not isinstance(field, Mapping):
        return (f"{field:.4g}" if isinstance(field, float) else str(field)), ""
    if "count" in field:
        interval = _format_interval(field, 100, ".0f")
        return (
            f"{100 * field['value']:.0f} %",
            f"{field['count']} of {field['total']}, {interval} %",
        )
    if field.get("unit") == "share":
        unit = " %" if "low" in field else ""
        return f"{100 * field['value']:.0f} %", _format_interval(field, 100, ".0f") + unit
    return f"{field['value']:.3g}", _format_interval(field, 1, ".3g")


def _format_interval(field: Mapping[str, Any], scale: int, digits: str, to: str = " to ") -> str:
    """The ends of an interval, or why there is none."""
    if "low" not in field:
        return missing_interval_reason(field)
    return f"{scale * field['low']:{digits}}{to}{scale * field['high']:{digits}}"


def to_csv(table: Table) -> str:
    """A metric takes four columns: value, ends of the interval, number of images."""
    columns = [*zip(*table.rows, strict=True)]
    is_metric = [any(isinstance(field, Mapping) for field in column) for column in columns]
    header: list[str] = []
    for name, wide in zip(table.header, is_metric, strict=True):
        header += [name, f"{name} low", f"{name} high", f"{name} of"] if wide else [name]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_escape_formula, header))
    for row in table.rows:
        values: list[Any] = []
        for field, wide in zip(row, is_metric, strict=True):
            values += _metric_columns(field) if wide else [field]
        writer.writerow(map(_escape_formula, values))
    return file.getvalue()


def _escape_formula(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    line = re.sub(r"[\r\n]", " ", value)
    return f"'{line}" if re.match(r"\t|\s*[=+@-]", line) else line


def _metric_columns(field: FieldValue) -> list[Any]:
    if not isinstance(field, Mapping):
        return [field, None, None, None]
    return [field["value"], field.get("low"), field.get("high"), field["total"]]


def to_json(table: Table) -> str:
    """A list of rows, each by the names of the header; metrics with all their fields."""
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    text = json.dumps({"caption": table.caption, "rows": rows}, indent=1, ensure_ascii=False)
    return text + "\n"


def to_markdown(table: Table) -> str:
    lines = [[_escape_markdown(name) for name in table.header], ["---"] * len(table.header)]
    lines += [[_escape_markdown(_format_inline(field)) for field in row] for row in table.rows]
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([_escape_markdown(table.caption), "", *rows, ""])


def _escape_markdown(text: str) -> str:
    """One line without HTML, links or pictures: names may come from strangers."""
    plain = escape(" ".join(text.split()), quote=False)
    return plain.replace("|", r"\|").replace("](", r"]\(")


def to_latex(table: Table) -> str:
    """A booktabs table."""
    rows = [" & ".join(map(_escape_latex, map(_format_inline, row))) for row in table.rows]
    lines = [
        r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule",
        " & ".join(map(_escape_latex, table.header)) + r" \\", r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _escape_latex(text: str) -> str:
    return text.translate(_LATEX)


def _format_inline(field: FieldValue) -> str:
    """The value with its interval in parentheses."""
    value, small = format_value(field)
    if not isinstance(field, Mapping) or not small:
        return value
    scale = 100 if "count" in field or field.get("unit") == "share" else 1
    return f"{value} ({_format_interval(field, scale, '.3g', '-')})"
