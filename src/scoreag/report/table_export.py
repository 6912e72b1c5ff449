"""Tables beside a page: CSV and JSON for machines, Markdown and LaTeX for papers."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from scoreag.io.filesystem import write_text
from scoreag.io.manifest import flatten
from scoreag.io.run_dir import TABLES
from scoreag.stats.estimates import missing_interval_reason

FieldValue: TypeAlias = str | float | int | Mapping[str, Any] | None  # a mapping: a MetricEntry
Rows: TypeAlias = list[list[FieldValue]]
MAX_DECIMALS = 6
WIDE = 6  # columns; a LaTeX table with more is shrunk to the width of the text
_LATEX = str.maketrans(
    {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
     "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first fields of a row are its name.

    Args:
        name: the stem of the files.
        title: the heading of the table's section on a page.
        names: how many fields name a row, e.g. 3: classifier, defense, attack.
    """

    name: str
    title: str
    caption: str
    header: Sequence[str]
    rows: Rows
    names: int = 1

    def joined(self) -> "Table":
        """The names of a row in one field, CLASSIFIER/DEFENSE/ATTACK, as a page shows them."""
        rows: Rows = [
            ["/".join(map(str, row[: self.names])), *row[self.names :]] for row in self.rows
        ]
        header = ["/".join(self.header[: self.names]), *self.header[self.names :]]
        return replace(self, header=header, rows=rows, names=1)

    def without_empty_columns(self) -> "Table":
        """The columns that have a value in some row."""
        used = [i for i in range(len(self.header)) if any(row[i] is not None for row in self.rows)]
        rows: Rows = [[row[i] for i in used] for row in self.rows]
        return replace(self, header=[self.header[i] for i in used], rows=rows)


def to_table(result: Any) -> Table:
    """What a command found as a table: names and values, or a row for each of several."""
    if isinstance(result, Mapping):
        rows: Rows = [[name, _to_field(v)] for name, v in flatten(result)]
        return Table("result", "Result", "", ["name", "value"], rows)
    flat = [dict(flatten(one)) for one in result]
    header = list(dict.fromkeys(name for one in flat for name in one))
    return Table(
        "result", "Result", "", header, [[_to_field(one.get(n)) for n in header] for one in flat]
    )


def _to_field(value: Any) -> FieldValue:
    """A value of JSON as a field."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str | float | int | None) else str(value)


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write each table into the folder of its run, as tables/NAME.csv, .json, .md and .tex."""
    (folder / TABLES).mkdir(parents=True, exist_ok=True)
    for table in tables:
        for suffix, convert in FORMATS.values():
            write_text(folder / TABLES / f"{table.name}.{suffix}", convert(table))


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


def _format_interval(field: Mapping[str, Any], digits: str) -> str:
    """The ends of an interval, or why there is none."""
    if "low" not in field:
        return missing_interval_reason(field)
    scale = 100 if _is_share(field) else 1
    return f"{scale * field['low']:{digits}} to {scale * field['high']:{digits}}"


def to_csv(table: Table) -> str:
    """A metric has further columns: the ends of its interval, and the number of images."""
    columns: list[list[Any]] = []
    for name, *fields in zip(table.header, *table.rows, strict=True):
        columns.append([name, *fields])
        if any(isinstance(field, Mapping) for field in fields):
            metrics = [
                field if isinstance(field, Mapping) else {"value": field} for field in fields
            ]
            columns[-1] = [name, *(metric["value"] for metric in metrics)]
            for title, key in (("low", "low"), ("high", "high"), ("of", "total")):
                if any(key in metric for metric in metrics):
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
    found = {"name": table.name, "title": table.title, "caption": table.caption, "rows": rows}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def to_markdown(table: Table) -> str:
    """A pipe table below its caption, in columns that can be read as they are."""
    rows = [[*map(_escape_markdown, row)] for row in _format_cells(table, "{} ({} to {})")]
    lefts = _text_columns(table)
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = [
        f":{'-' * (width - 1)}" if left else f"{'-' * (width - 1)}:"
        for width, left in zip(widths, lefts, strict=True)
    ]
    sides = ["<" if left else ">" for left in lefts]
    lines = [
        " | ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        )
        for row in (rows[0], rule, *rows[1:])
    ]
    caption = [_escape_markdown(table.caption), ""] if table.caption else []
    return "\n".join([*caption, *(f"| {line} |" for line in lines), ""])


def _escape_markdown(text: str) -> str:
    """One line without HTML, links or pictures, as names may come from others."""
    plain = escape(" ".join(text.split()), quote=False)
    return plain.replace("|", r"\|").replace("](", r"]\(")


def to_latex(table: Table) -> str:
    r"""A booktabs table with a caption, a short caption and the label ``tab:NAME``."""
    header, *rows = (
        " & ".join(map(_escape_latex, row)) + r" \\" for row in _format_cells(table, "{} [{}, {}]")
    )
    sides = "".join("l" if left else "r" for left in _text_columns(table))
    shrunk = len(sides) > WIDE
    packages = "booktabs, graphicx" if shrunk else "booktabs"
    label = re.sub(r"[^A-Za-z0-9.-]+", "-", table.name).strip("-")
    title, caption = map(_escape_latex, (table.title, table.caption or table.title))
    lines = [
        f"% \\usepackage{{{packages}}}",
        r"\begin{table}", r"\centering", rf"\caption[{title}]{{{caption}}}",
        rf"\label{{tab:{label}}}", *([r"\resizebox{\linewidth}{!}{%"] if shrunk else []),
        rf"\begin{{tabular}}{{{sides}}}", r"\toprule", header, r"\midrule", *rows,
        r"\bottomrule", r"\end{tabular}" + "}" * shrunk, r"\end{table}", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _escape_latex(text: str) -> str:
    """One line of LaTeX; a number below 0 has a minus sign, and a bracket starts no option."""
    line = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", " ".join(text.split()))
    line = line.translate(_LATEX).replace("\N{MINUS SIGN}", "$-$")
    return f"{{}}{line}" if line.startswith("[") else line


FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {  # the suffix of the file, and the writer
    "csv": ("csv", to_csv),
    "json": ("json", to_json),
    "latex": ("tex", to_latex),
    "markdown": ("md", to_markdown),
}


def _text_columns(table: Table) -> list[bool]:
    """Whether each column holds text, and stands to the left."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.header)
    return [not any(isinstance(f, int | float | Mapping) for f in column) for column in columns]


def _format_cells(table: Table, interval: str) -> list[list[str]]:
    """Header and rows as text, with one unit and one number of decimals a column.

    Args:
        interval: the format of a value and the ends of its interval.
    """
    columns = []
    for name, *fields in zip(table.header, *table.rows, strict=True):
        style = _column_style(fields)
        heading = f"{name} (%)" if style and style[0] == 100 else name
        columns.append([heading, *(_format_field(field, style, interval) for field in fields)])
    return [list(row) for row in zip(*columns, strict=True)]


def _column_style(fields: Sequence[FieldValue]) -> tuple[int, int] | None:
    """The scale of a column of numbers, 1 or 100, and its decimals; None where units differ."""
    metrics = [f for f in fields if isinstance(f, Mapping) and f.get("value") is not None]
    numbers = [f for f in fields if isinstance(f, float) and math.isfinite(f)]
    if len({_is_share(metric) for metric in metrics}) > 1 or (metrics and numbers):
        return None
    if metrics and _is_share(metrics[0]):
        return 100, 1
    sizes = [abs(x) for x in (*numbers, *(metric["value"] for metric in metrics)) if x]
    if not sizes:
        return (1, 0) if metrics or numbers else None
    digits = [2 - math.floor(math.log10(max(sizes))), 1 - math.floor(math.log10(min(sizes)))]
    return 1, min(max(0, *digits), MAX_DECIMALS)


def _format_field(field: FieldValue, style: tuple[int, int] | None, interval: str) -> str:
    """A field in the style of its column; in its own where there is none."""
    if field is None or (isinstance(field, Mapping) and field.get("value") is None):
        return missing_interval_reason(field) if field else ""
    if isinstance(field, str | int) or (style is None and isinstance(field, float)):
        return format_value(field)[0]
    unit = " %" if style is None and isinstance(field, Mapping) and _is_share(field) else ""
    scale, decimals = style or _column_style([field]) or (1, 0)
    if not isinstance(field, Mapping):
        return f"{field:.{decimals}f}"
    value = f"{scale * field['value']:.{decimals}f}{unit}"
    if "low" not in field:
        reason = missing_interval_reason(field)
        return f"{value} ({reason})" if reason else value
    ends = (f"{scale * field[end]:.{decimals}f}" for end in ("low", "high"))
    return interval.format(value, *ends)
