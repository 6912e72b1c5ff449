"""Images of an assessment beside what they were made from, failures first, a block a cell."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from scoreag.assess.account import Account, Reckoned
from scoreag.files import inside
from scoreag.images import read_png
from scoreag.report.assessment_cells import attacked, name_of, telling
from scoreag.report.page import paragraph
from scoreag.report.pictures import Cell, gallery, strip
from scoreag.report.run_images import named
from scoreag.runs.rows import Row

EACH = 6  # images of an outcome that are shown of a cell
BLOCKS = 24  # cells whose images are shown; the pictures of all are in the folder


def blocks(account: Account) -> list[str]:
    """The images of the most telling variant of each attack, and of all defended cells."""
    first = telling(account)
    chosen = [*first, *(one for one in attacked(account) if one not in first)]
    shown = chosen[:BLOCKS]
    left = len(chosen) - len(shown)
    html = [_block(account.folder, one, index < 2) for index, one in enumerate(shown)]
    more = f"The images of {left} cells more are in the folder cells." if left else ""
    return [*html, *([paragraph(more)] if more else [])]


def _block(folder: Path, one: Reckoned, opened: bool) -> str:
    groups = (
        ("not fooled", False, [r for r in one.shown if _counts(r) and not r["success_8bit"]]),
        ("class not seen", False, [r for r in one.shown if _fooled(r) and not _seen(r)]),
        ("fooled", True, [r for r in one.shown if _fooled(r) and _seen(r)]),
        ("wrong before", None, [r for r in one.shown if not _counts(r)]),
    )
    strips = [
        _strip(folder, one, row, words, good)
        for words, good, rows in groups
        for row in rows[: EACH if words != "wrong before" else 2]
    ]
    least = 15 if one.shown and "original_file" in one.shown[0] else 7
    return (
        f"<details{' open' if opened else ''}><summary>{escape(one.cell.group)}: "
        f"{escape(name_of(one))}</summary>\n{gallery(strips, least)}\n</details>"
    )


def _counts(row: Row) -> bool:
    """Whether the classifier was right before, or nothing was before."""
    return row["predictions"]["before"] in (None, row["label"])


def _fooled(row: Row) -> bool:
    return _counts(row) and bool(row["success_8bit"])


def _seen(row: Row) -> bool:
    """Whether all judges see the class still; also where there are none."""
    return all(judge["saved"] == row["label"] for judge in row["judges"].values())


def _strip(folder: Path, one: Reckoned, row: Row, words: str, good: bool | None) -> str:
    names, said = one.cell.classes, row["predictions"]
    cells = []
    if "original_file" in row:
        lines = _lines(said["before"], {w: j["before"] for w, j in row["judges"].items()}, names)
        cells.append(_cell(inside(folder, row["original_file"]), "before", lines))
    lines = _lines(said["saved"], {w: j["saved"] for w, j in row["judges"].items()}, names)
    cells.append(_cell(inside(folder, row["file"]), "after", lines, words, good))
    title = "" if one.cell.strangers else f"{named(row['label'], names)}, "
    return strip(f"{title}image {row['image_id']}", cells)


def _lines(said: int, judges: dict[str, int], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    told = tuple(("judge", named(answer, names)) for answer in judges.values())
    return (("says", named(said, names)), *told)


def _cell(
    file: Path,
    name: str,
    lines: tuple[tuple[str, str], ...],
    words: str = "",
    good: bool | None = None,
) -> Cell:
    alt = "; ".join([name, *(f"{who} {says}" for who, says in lines)])
    return Cell(read_png(file), name, alt, lines, words, good)
