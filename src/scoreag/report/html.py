"""HTML pages by jinja2: one file each, which loads nothing; contents, parts of tables, size limit.

Autoescaping is on, so names of models, classes and files cannot become markup. Only the curves of
``plots.Chart`` are marked as safe. The one script of a page is fixed, and pinned by its digest.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from scoreag.report.images import (
    ImageCell,
    Pixels,
    Strip,
    class_name,
    data_uri,
    format_share,
    strip_of_row,
)
from scoreag.report.plots import MAX_CURVES, Chart, Curve, list_points, metric_curve, plot_curves
from scoreag.report.provenance import describe_environment, list_config
from scoreag.report.table_export import FieldValue, format_value

__all__ = [  # with what stands on pages: their charts, their images and how they came about
    "BASELINE", "MAX_CURVES", "TEMPLATES", "Chart", "Curve", "ImageCell", "Pixels", "Strip",
    "TableCell", "class_name", "data_uri", "describe_environment", "list_config", "metric_curve",
    "metric_label", "plot_curves", "render_page", "strip_of_row", "table_cell",
]  # fmt: skip
TableCell: TypeAlias = str | tuple[str, str]  # text, or text with smaller text below it

MAX_BYTES = 15_000_000  # of a page; images are left out above it
BASELINE = "_floor"  # ends the name of a metric of training images
DISTANCES = {  # the kinds of metrics that are of features, which the rest of the name tells
    "frechet": "Fréchet distance", "kernel": "kernel distance", "precision": "precision",
    "recall": "recall",
}  # fmt: skip
TEMPLATES = Environment(
    loader=PackageLoader("scoreag.report"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
)
_SECTION = re.compile(r"<section>\s*<h2>(.*?)</h2>")
_STRIP = re.compile(r'<figure class="strip"|href="#strip"')
_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")
_RATIO = re.compile(r"([\d.,]+)(?: of |/)([\d.,]+)")


def render_page(template: str, names: Mapping[str, str] | None = None, **view: Any) -> str:
    """``templates/TEMPLATE.html.jinja`` with a title, lead, footer and its own data.

    A page above ``MAX_BYTES`` shows the first images of each gallery only, and says so.

    Args:
        names: long names of models, such as paths, with the short ones to show in their place.
    """
    page = TEMPLATES.get_template(f"{template}.html.jinja")
    html, limit = page.render(view), 1 << 10
    while len(html.encode()) > MAX_BYTES and limit:
        limit //= 2
        html = page.render(view, max_strips=limit)
    for long, short in sorted((names or {}).items(), key=lambda pair: -len(pair[0])):
        html = html.replace(str(escape(long)), str(escape(short)))
    return html


def metric_label(name: str) -> str:
    """The name of a metric in words.

    >>> metric_label("frechet_judge")
    'Fréchet distance, judge'
    """
    kind, _, rest = name.removesuffix(BASELINE).replace("_", " ").partition(" ")
    words = f"{DISTANCES[kind]}, {rest}" if kind in DISTANCES else f"{kind} {rest}".rstrip()
    return f"{words}, training-set baseline" if name.endswith(BASELINE) else words


def table_cell(field: FieldValue | tuple[str, str]) -> TableCell:
    """A field of a table as text, or as text and smaller text."""
    if isinstance(field, str | tuple):
        return field
    value, small = format_value(field)
    return (value, small) if small else value


def sort_key(field: FieldValue | tuple[str, str]) -> str:
    """The number by which a table is sorted: ``3 of 4`` and ``8/255`` are ratios; "" for words."""
    if isinstance(field, Mapping):
        return "" if field.get("value") is None else f"{field['value']:.8g}"
    if isinstance(field, int | float):
        return f"{field:.8g}"
    text = Markup(field[0] if isinstance(field, tuple) else field or "").striptags()
    if match := _RATIO.match(text):
        part, whole = (float(number.replace(",", "")) for number in match.groups())
        return f"{part / whole:.8g}" if whole else ""
    match = _NUMBER.search(text) if text[:7] == "at most" else _NUMBER.match(text)
    return f"{float(match[0].replace(',', '')):.8g}" if match else ""


@dataclass(frozen=True)
class Outline:
    """The body of a page with anchors, and its sections as (anchor, title)."""

    body: Markup
    sections: tuple[tuple[str, Markup], ...]


def make_outline(body: Markup) -> Outline:
    """Number the sections and the strips of a body, so that links can name them."""
    sections: dict[str, Markup] = {}

    def anchor(match: re.Match[str]) -> str:
        title = Markup(match[1])
        stem = re.sub(r"\W+", "-", title.striptags().lower()).strip("-") or "section"
        name = next(n for i in count(1) if (n := f"{stem}-{i}" if i > 1 else stem) not in sections)
        sections[name] = title
        return f'<section id="{name}"><h2>{title}</h2>'

    numbers = count()
    current = 0

    def number(match: re.Match[str]) -> str:
        nonlocal current
        if match[0].startswith("<"):
            current = next(numbers)
            return f'<figure class="strip" id="strip-{current}"'
        return f'href="#strip-{current}"'

    anchored = _SECTION.sub(anchor, _STRIP.sub(number, str(body)))
    return Outline(Markup(anchored), tuple(sections.items()))


def _read_script() -> tuple[Markup, str]:
    """The script of all pages, and its digest for the content security policy."""
    assert TEMPLATES.loader is not None
    source, *_ = TEMPLATES.loader.get_source(TEMPLATES, "page.js")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return Markup(source), f"sha256-{digest}"


TEMPLATES.filters |= {
    "class_name": class_name, "metric_label": metric_label, "table_cell": table_cell,
    "sort_key": sort_key, "outline": make_outline, "share": format_share,
    "list_points": list_points,
}  # fmt: skip
TEMPLATES.globals["script"], TEMPLATES.globals["script_digest"] = _read_script()
