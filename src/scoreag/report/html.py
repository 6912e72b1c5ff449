"""HTML pages by jinja2: one file each, without network, fonts and scripts.

Autoescaping is on, so names of models, classes and files cannot become markup. Only the curves of
``figures`` are marked as safe.
"""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

from scoreag.io.manifest import flatten
from scoreag.report.table_export import FieldValue, format_value

TableCell: TypeAlias = str | tuple[str, str]  # text, or text with smaller text below it

BASELINE = "_floor"  # ends the name of a metric of training images
TEMPLATES = Environment(
    loader=PackageLoader("scoreag.report"),
    autoescape=True,
    undefined=StrictUndefined,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
)
CIRCUMSTANCES = (  # entries of a manifest that determine no result, or are shown elsewhere
    "versions", "machine", "started", "finished", "format", "images", "image_ids", "classes",
    "probe", "seal",
)  # fmt: skip
FOOTER_KEYS = (
    "versions.scoreag", "versions.torch", "machine.processor", "machine.cores", "started",
)  # fmt: skip


def render_page(template: str, **view: Any) -> str:
    """``templates/TEMPLATE.html.jinja`` with a title, lead, footer and its own data."""
    return TEMPLATES.get_template(f"{template}.html.jinja").render(view)


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a class, or its number where it has none; "rejected" below 0."""
    if label < 0:
        return "rejected"
    return classes[label] if label < len(classes) else f"class {label}"


def list_config(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The entries of a manifest that determine the result."""
    fixed = {name: value for name, value in manifest.items() if name not in CIRCUMSTANCES}
    entries = [(name, value) for name, value in flatten(fixed) if value not in (None, {}, [])]
    return [(name, shorten(str(value), 200, placeholder=" ...")) for name, value in entries]


def describe_environment(manifest: Mapping[str, Any]) -> str:
    """Versions, machine and start of a run, for the footer of a page."""
    values = dict(flatten(manifest))
    names = [name for name in FOOTER_KEYS if values.get(name)]
    return ", ".join(f"{name.rpartition('.')[2]} {values[name]}" for name in names)


def metric_label(name: str) -> str:
    """The name of a metric in words."""
    words = name.removesuffix(BASELINE).replace("_", " ")
    return f"{words}, training-set baseline" if name.endswith(BASELINE) else words


def table_cell(field: FieldValue | tuple[str, str]) -> TableCell:
    """A field of a table as text, or as text and smaller text."""
    if isinstance(field, str | tuple):
        return field
    value, small = format_value(field)
    return (value, small) if small else value


TEMPLATES.filters |= {
    "class_name": class_name, "metric_label": metric_label, "table_cell": table_cell,
}  # fmt: skip
