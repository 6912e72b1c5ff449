"""Images of an assessment beside what they were made from, failures first, a block a cell."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.io.filesystem import resolve_inside
from scoreag.io.images import read_png
from scoreag.report.html import paragraph
from scoreag.report.image_grid import ImageCell, gallery, strip
from scoreag.report.robustness_cells import attacked_cells, cell_title, strongest_variants
from scoreag.report.task_images import class_name
from scoreag.io.records import Row

IMAGES_PER_OUTCOME = 6  # images of an outcome that are shown of a cell
MAX_CELLS = 24  # cells whose images are shown; the pictures of all are in the folder


def render_image_blocks(assessment: AssessmentResults) -> list[str]:
    """The images of the most telling variant of each attack, and of all defended cells."""
    first = strongest_variants(assessment)
    chosen = [*first, *(one for one in attacked_cells(assessment) if one not in first)]
    shown = chosen[:MAX_CELLS]
    left = len(chosen) - len(shown)
    html = [_render_block(assessment.folder, one, index < 2) for index, one in enumerate(shown)]
    more = f"The images of {left} cells more are in the folder cells." if left else ""
    return [*html, *([paragraph(more)] if more else [])]


def _render_block(folder: Path, one: CellResult, is_open: bool) -> str:
    groups = (
        (
            "not fooled",
            False,
            [r for r in one.sample_rows if _is_counted(r) and not r["success"]],
        ),
        (
            "class not seen",
            False,
            [r for r in one.sample_rows if _is_fooled(r) and not _label_preserved(r)],
        ),
        ("fooled", True, [r for r in one.sample_rows if _is_fooled(r) and _label_preserved(r)]),
        ("wrong before", None, [r for r in one.sample_rows if not _is_counted(r)]),
    )
    strips = [
        _strip(folder, one, row, words, good)
        for words, good, rows in groups
        for row in rows[: IMAGES_PER_OUTCOME if words != "wrong before" else 2]
    ]
    least = 15 if one.sample_rows and "original_file" in one.sample_rows[0] else 7
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(one.cell.group)}: "
        f"{escape(cell_title(one))}</summary>\n{gallery(strips, least)}\n</details>"
    )


def _is_counted(row: Row) -> bool:
    """Whether the classifier was right before, or nothing was before."""
    return row["predictions"]["before"] in (None, row["label"])


def _is_fooled(row: Row) -> bool:
    return _is_counted(row) and bool(row["success"])


def _label_preserved(row: Row) -> bool:
    """Whether all judges see the class still; also where there are none."""
    return all(judge["saved"] == row["label"] for judge in row["judges"].values())


def _strip(folder: Path, one: CellResult, row: Row, outcome: str, good: bool | None) -> str:
    names, said = one.cell.classes, row["predictions"]
    cells = []
    if "original_file" in row:
        lines = _prediction_lines(
            said["before"], {w: j["before"] for w, j in row["judges"].items()}, names
        )
        cells.append(_cell(resolve_inside(folder, row["original_file"]), "before", lines))
    lines = _prediction_lines(
        said["saved"], {w: j["saved"] for w, j in row["judges"].items()}, names
    )
    cells.append(_cell(resolve_inside(folder, row["file"]), "after", lines, outcome, good))
    title = "" if one.cell.is_ood else f"{class_name(row['label'], names)}, "
    return strip(f"{title}image {row['image_id']}", cells)


def _prediction_lines(
    prediction: int, judges: dict[str, int], names: Sequence[str]
) -> tuple[tuple[str, str], ...]:
    told = tuple(("judge", class_name(answer, names)) for answer in judges.values())
    return (("says", class_name(prediction, names)), *told)


def _cell(
    file: Path,
    name: str,
    lines: tuple[tuple[str, str], ...],
    outcome: str = "",
    good: bool | None = None,
) -> ImageCell:
    alt = "; ".join([name, *(f"{who} {says}" for who, says in lines)])
    return ImageCell(read_png(file), name, alt, lines, outcome, good)
