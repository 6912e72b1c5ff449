"""The images of a run, what was made of what, sorted by how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from scoreag.report.html import paragraph, section
from scoreag.report.image_grid import ImageCell, gallery, strip
from scoreag.io.records import Row, read_picture

MAX_PER_GROUP = 24  # images of a group; a page of thousands would open nowhere


@dataclass(frozen=True)
class OutcomeGroup:
    """Images with one outcome: its heading, the words below each image, and its mark."""

    title: str
    description: str
    caption: str
    good: bool | None


NOT_FOOLED = OutcomeGroup(
    "Failures", "The classifier still sees the class that it should not see.", "not fooled", False
)
FOOLED = OutcomeGroup("Successes", "The classifier sees another class.", "fooled", True)
CLASS_LOST = OutcomeGroup(
    "Fooled, class lost",
    "The classifier errs, and the judge does not see the class either: no success.",
    "class not seen",
    False,
)
WRONG_BEFORE = OutcomeGroup(
    "Wrong before",
    "The classifier was wrong about the original already; no figure counts these images.",
    "wrong before",
    None,
)
NOT_REPAIRED = OutcomeGroup("Failures", "Wrong after purification.", "wrong", False)
REPAIRED = OutcomeGroup("Successes", "Right after purification.", "right", True)
UNJUDGED = OutcomeGroup("Images", "What they show was not asked.", "", None)


def render_groups(
    folder: Path, task: str, manifest: Mapping[str, Any], rows: Sequence[Row]
) -> list[str]:
    """A section for each outcome that there is, failures first."""
    order = (NOT_REPAIRED, NOT_FOOLED, CLASS_LOST, UNJUDGED, REPAIRED, FOOLED, WRONG_BEFORE)
    sorted_rows = {
        group: [r for r in rows if classify_outcome(task, r) is group] for group in order
    }
    classes = manifest.get("classes", ())
    return [
        _section(folder, classes, group, members)
        for group, members in sorted_rows.items()
        if members
    ]


def classify_outcome(task: str, row: Row) -> OutcomeGroup:
    """Where an image belongs, by what classifier and judge say of the saved picture."""
    if row["success"] is None:
        return UNJUDGED
    if task == "purify":
        return NOT_REPAIRED if row["success"] else REPAIRED
    if task == "transform" and row["predictions"]["before"] != row["label"]:
        return WRONG_BEFORE
    if not row["success"]:
        return NOT_FOOLED
    return CLASS_LOST if "judge" in row and row["judge"]["saved"] != row["label"] else FOOLED


def _section(folder: Path, classes: Sequence[str], group: OutcomeGroup, rows: Sequence[Row]) -> str:
    shown = rows[:MAX_PER_GROUP]
    count = (
        f"All {len(rows)}"
        if len(shown) == len(rows)
        else f"The first {MAX_PER_GROUP} of {len(rows)}"
    )
    strips = [_strip(folder, classes, group, row) for row in shown]
    least = 15 if "original_file" in rows[0] else 7
    return section(group.title, paragraph(f"{group.description} {count}."), gallery(strips, least))


def _strip(folder: Path, classes: Sequence[str], group: OutcomeGroup, row: Row) -> str:
    label, said = row["label"], row["predictions"]
    cells = []
    if "original_file" in row:
        original, judge = (
            read_picture(folder, row, "original_"),
            _judge_line(row, "before", classes),
        )
        cells.append(_cell(original, "original", said["before"], classes, judge))
    aim = () if row["target"] is None else (("wanted", class_name(row["target"], classes)),)
    more = (*aim, *_judge_line(row, "saved", classes))
    cells.append(_cell(read_picture(folder, row), "result", said["saved"], classes, more, group))
    title = "" if label is None else f"{class_name(label, classes)}, "
    return strip(f"{title}image {row['image_id']}", cells)


def _judge_line(row: Row, form: str, classes: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What the judge says of a form of the image, where one was asked."""
    answer = row.get("judge", {}).get(form)
    return () if answer is None else (("judge", class_name(answer, classes)),)


def _cell(
    pixels: UInt8[Tensor, "channel height width"],
    name: str,
    prediction: int | None,
    classes: Sequence[str],
    extra_lines: tuple[tuple[str, str], ...] = (),
    group: OutcomeGroup = UNJUDGED,
) -> ImageCell:
    says = () if prediction is None else (("says", class_name(prediction, classes)),)
    words = f"; the classifier says {says[0][1]}" if says else ""
    lines = (*says, *extra_lines)
    return ImageCell(pixels, name, f"{name}{words}", lines, group.caption, group.good)


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a class, or its number where it has none; below 0 it was rejected."""
    if label < 0:
        return "rejected"
    return classes[label] if label < len(classes) else f"class {label}"
