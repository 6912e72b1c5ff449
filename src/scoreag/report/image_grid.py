"""Small images for a page: side by side, each with what classifiers say about it."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from scoreag.io.records import Row
from scoreag.report.html import class_name

Pixels: TypeAlias = UInt8[Tensor, "channel height width"]
MARKS = {
    True: ("good", "\N{CHECK MARK}"),
    False: ("bad", "\N{MULTIPLICATION X}"),
    None: ("note", "\N{EN DASH}"),
}


@dataclass(frozen=True)
class ImageCell:
    """One image and its caption.

    Args:
        lines: who predicts what, e.g. ("classifier", "cat").
        outcome: such as "fooled"; ``good`` puts a tick, a cross, or (None) a dash before it.
    """

    pixels: Pixels
    name: str
    alt: str
    lines: Sequence[tuple[str, str]] = ()
    outcome: str = ""
    good: bool | None = True

    @property
    def src(self) -> str:
        return data_uri(self.pixels)

    @property
    def height(self) -> int:
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        return self.pixels.shape[2]

    @property
    def mark(self) -> tuple[str, str]:
        """The class of the mark in the style sheet, and its sign."""
        return MARKS[self.good]


@dataclass(frozen=True)
class Strip:
    """Versions of one image, shown in a row under a title."""

    title: str
    cells: Sequence[ImageCell]


def strip_of_row(
    row: Row,
    read: Callable[[str], Pixels],
    classes: Sequence[str],
    judges: Sequence[Mapping[str, Any]],
    mark: tuple[str, bool | None],
    with_label: bool = True,
) -> Strip:
    """The original, where there is one, and the saved image of a row, with all predictions.

    Args:
        read: the picture whose field of the row is ``PREFIXfile``.
        judges: what each reference classifier predicts, by the form of the image.
        mark: the outcome of the saved image, and whether it is a good one.
    """

    def cell(name: str, form: str, prefix: str, mark: tuple[str, bool | None]) -> ImageCell:
        labels = [("classifier", row["predictions"][form])]
        labels += [("target", row["target"])] if form == "saved" else []
        labels += [("reference", judge.get(form)) for judge in judges]
        lines = [(who, class_name(label, classes)) for who, label in labels if label is not None]
        alt = "; ".join([name, *(f"{who}: {word}" for who, word in lines)])
        return ImageCell(read(prefix), name, alt, lines, *mark)

    cells = [cell("original", "before", "original_", ("", None))] if "original_file" in row else []
    cells.append(cell("result", "saved", "", mark))
    has_label = with_label and row["label"] is not None
    label = f"{class_name(row['label'], classes)}, " if has_label else ""
    return Strip(f"{label}image {row['image_id']}", cells)


def data_uri(pixels: Pixels) -> str:
    """The image as a PNG in a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
