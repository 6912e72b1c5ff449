"""One HTML file that needs nothing else: no network, no fonts, no scripts; light and dark.

Arguments called ``html`` are put in as they are and come from the functions of this folder;
everything else is text, and is escaped here.
"""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import TypeAlias

from scoreag.stats.proportion import Proportion

TableCell: TypeAlias = str | tuple[str, str]  # of a table: what it says, and smaller print below


def render_page(
    title: str, summary: Sequence[str], html: Sequence[str], footer: Sequence[str] = ()
) -> str:
    """The whole file: a title, sentences that say it all, sections, and where it comes from."""
    style = files(__package__).joinpath("style.css").read_text()
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>",
            *(f'<p class="lead">{escape(sentence)}</p>' for sentence in summary),
            "</header>",
            *html,
            "<footer>",
            *(f"<p>{escape(line)}</p>" for line in footer),
            "</footer>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(title: str, *html: str) -> str:
    """A heading and what stands below it."""
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *html, "</section>"])


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def definition_list(pairs: Sequence[tuple[str, str]]) -> str:
    """Words, each with its explanation."""
    lines = (f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in pairs)
    return "\n".join(["<dl>", *lines, "</dl>"])


def figure(html: str, caption: str) -> str:
    """A curve, with its caption below."""
    return f'<figure class="chart">{html}<figcaption>{escape(caption)}</figcaption></figure>'


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[TableCell]]) -> str:
    """Rows under a header; the first entry of each names it. On a narrow screen, rows are cards."""
    body = "\n".join(_table_row(header, row) for row in rows)
    return _render_table(caption, header, body)


def proportions_table(caption: str, rows: Sequence[tuple[str, Proportion]]) -> str:
    """Shares: what, how many of what, per cent, and a bar with the 95 % interval."""
    header = ("", "count", "share", "95 % interval")
    body = "\n".join(_proportion_row(header, name, rate) for name, rate in rows)
    return _render_table(caption, header, body)


def format_count(proportion: Proportion) -> TableCell:
    """``18 of 20`` with the interval below, for an entry of a table."""
    low, high = proportion.interval
    return f"{proportion.count} of {proportion.total}", f"{100 * low:.0f} to {100 * high:.0f} %"


def _render_table(caption: str, header: Sequence[str], html: str) -> str:
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    return (
        f'<div class="table"><table class="stack">\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{html}\n</tbody>\n</table></div>"
    )


def _table_row(header: Sequence[str], row: Sequence[TableCell]) -> str:
    name, *entries = row
    cells = (
        _table_cell(title, _render_cell(e)) for title, e in zip(header[1:], entries, strict=True)
    )
    return f'<tr><th scope="row">{_render_cell(name)}</th>{"".join(cells)}</tr>'


def _proportion_row(header: Sequence[str], name: str, proportion: Proportion) -> str:
    share = f"{100 * proportion.value:.1f}&nbsp;%" if proportion.total else "nothing to count"
    count = _render_cell((f"{proportion.count} of {proportion.total}", proportion.population))
    entries = (count, share, _interval_bar(proportion))
    cells = "".join(
        _table_cell(title, entry) for title, entry in zip(header[1:], entries, strict=True)
    )
    return f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _table_cell(label: str, html: str) -> str:
    blank = "" if html else ' class="blank"'
    return f'<td data-label="{escape(label)}"{blank}><span>{html}</span></td>'


def _render_cell(entry: TableCell) -> str:
    if isinstance(entry, str):
        return escape(entry)
    return f"{escape(entry[0])}<small>{escape(entry[1])}</small>"


def _interval_bar(proportion: Proportion) -> str:
    """0 to 100 % from left to right: the interval as a band, the share as a line."""
    low, high = (100 * end for end in proportion.interval)
    words = f"{low:.0f} to {high:.0f} %"
    line = f'<rect class="value" x="{100 * proportion.value - 0.5:.1f}" width="1" height="10"/>'
    return (
        f'<svg class="bar" viewBox="-1 0 102 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{words}"><rect class="track" width="100" height="10"/>'
        f'<rect class="range" x="{low:.1f}" width="{high - low:.1f}" height="10"/>'
        f"{line if proportion.total else ''}</svg><small>{words}</small>"
    )
