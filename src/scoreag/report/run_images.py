"""The images of a run, what was made of what, sorted by how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from scoreag.report.page import paragraph, section
from scoreag.report.pictures import Cell, gallery, strip
from scoreag.runs.rows import Row, picture

SHOWN = 24  # images of a group; a page of thousands would open nowhere


@dataclass(frozen=True)
class Group:
    """Images with one outcome: its heading, the words below each image, and its mark."""

    title: str
    about: str
    words: str
    good: bool | None


NOT_FOOLED = Group(
    "Failures", "The classifier still sees the class that it should not see.", "not fooled", False
)
FOOLED = Group("Successes", "The classifier sees another class.", "fooled", True)
LOST = Group(
    "Fooled, class lost",
    "The classifier errs, and the judge does not see the class either: no success.",
    "class not seen",
    False,
)
WRONG_BEFORE = Group(
    "Wrong before",
    "The classifier was wrong about the original already; no figure counts these images.",
    "wrong before",
    None,
)
NOT_REPAIRED = Group("Failures", "Wrong after purification.", "wrong", False)
REPAIRED = Group("Successes", "Right after purification.", "right", True)
UNJUDGED = Group("Images", "What they show was not asked.", "", None)


def groups(folder: Path, task: str, manifest: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """A section for each outcome that there is, failures first."""
    order = (NOT_REPAIRED, NOT_FOOLED, LOST, UNJUDGED, REPAIRED, FOOLED, WRONG_BEFORE)
    sorted_rows = {group: [r for r in rows if outcome(task, r) is group] for group in order}
    classes = manifest.get("classes", ())
    return [
        _section(folder, classes, group, members)
        for group, members in sorted_rows.items()
        if members
    ]


def outcome(task: str, row: Row) -> Group:
    """Where an image belongs, by what classifier and judge say of the saved picture."""
    if row["success_8bit"] is None:
        return UNJUDGED
    if task == "purify":
        return NOT_REPAIRED if row["success_8bit"] else REPAIRED
    if task == "transform" and row["predictions"]["before"] != row["label"]:
        return WRONG_BEFORE
    if not row["success_8bit"]:
        return NOT_FOOLED
    return LOST if "judge" in row and row["judge"]["saved"] != row["label"] else FOOLED


def _section(folder: Path, classes: Sequence[str], group: Group, rows: Sequence[Row]) -> str:
    shown = rows[:SHOWN]
    count = f"All {len(rows)}" if len(shown) == len(rows) else f"The first {SHOWN} of {len(rows)}"
    strips = [_strip(folder, classes, group, row) for row in shown]
    least = 15 if "original_file" in rows[0] else 7
    return section(group.title, paragraph(f"{group.about} {count}."), gallery(strips, least))


def _strip(folder: Path, classes: Sequence[str], group: Group, row: Row) -> str:
    label, said = row["label"], row["predictions"]
    cells = []
    if "original_file" in row:
        original, judge = picture(folder, row, "original_"), _judge(row, "before", classes)
        cells.append(_cell(original, "original", said["before"], classes, judge))
    aim = () if row["wrong"] is None else (("wanted", named(row["wrong"], classes)),)
    more = (*aim, *_judge(row, "saved", classes))
    cells.append(_cell(picture(folder, row), "result", said["saved"], classes, more, group))
    title = "" if label is None else f"{named(label, classes)}, "
    return strip(f"{title}image {row['image_id']}", cells)


def _judge(row: Row, of: str, classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What the judge says of a form of the image, where one was asked."""
    answer = row.get("judge", {}).get(of)
    return () if answer is None else (("judge", named(answer, classes)),)


def _cell(
    pixels: UInt8[Tensor, "channel height width"],
    name: str,
    said: int | None,
    classes: Sequence[str],
    more: tuple[tuple[str, str], ...] = (),
    group: Group = UNJUDGED,
) -> Cell:
    says = () if said is None else (("says", named(said, classes)),)
    words = f"; the classifier says {says[0][1]}" if says else ""
    lines = (*says, *more)
    return Cell(pixels, name, f"{name}{words}", lines, group.words, group.good)


def named(label: int, classes: Sequence[str]) -> str:
    """The name of a class, or its number where it has none; below 0 it was rejected."""
    if label < 0:
        return "rejected"
    return classes[label] if label < len(classes) else f"class {label}"
