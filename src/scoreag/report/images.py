"""Images of a page: versions of one image in a row, their difference, and who predicts what."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from scoreag.io.records import Row

Pixels: TypeAlias = UInt8[Tensor, "channel height width"]

MARKS = {  # by whether an outcome is good: the class in the style sheet, and the sign
    True: ("good", "\N{CHECK MARK}"),
    False: ("bad", "\N{MULTIPLICATION X}"),
    None: ("note", "\N{EN DASH}"),
}
GRAY = 128  # of a pixel that did not change, in a picture of the difference


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of a class, or its number where it has none; "rejected" below 0."""
    if label < 0:
        return "rejected"
    return classes[label] if label < len(classes) else f"class {label}"


@dataclass(frozen=True)
class ImageCell:
    """One image and its caption.

    Args:
        lines: who predicts what, e.g. ("classifier", "cat").
        outcome: such as "fooled", after a tick, a cross, or a dash as ``good`` says.
        probabilities: classes with their probabilities, for the enlarged image.
        is_detail: the image is shown only where its strip is enlarged.
    """

    pixels: Pixels
    name: str
    alt: str
    lines: Sequence[tuple[str, str]] = ()
    outcome: str = ""
    good: bool | None = True
    probabilities: Sequence[tuple[str, float]] = ()
    is_detail: bool = False

    @cached_property
    def src(self) -> str:
        return data_uri(self.pixels)

    @property
    def mark(self) -> tuple[str, str]:
        """The class of the mark in the style sheet, and its sign."""
        return MARKS[self.good]


@dataclass(frozen=True)
class Strip:
    """Versions of one image, shown in a row under a title."""

    title: str
    cells: Sequence[ImageCell]

    @property
    def n_columns(self) -> int:
        """The images that are shown before the strip is enlarged."""
        return sum(not cell.is_detail for cell in self.cells)


def difference_cell(name: str, before: Pixels, after: Pixels, is_detail: bool = False) -> ImageCell:
    """``after - before`` around gray, amplified by the largest factor that cuts nothing off."""
    change = after.int() - before.int()
    largest = int(change.abs().max())
    factor = max(1, (GRAY - 1) // max(1, largest))
    pixels = (GRAY + factor * change).clamp(0, 255).to(torch.uint8)
    lines = [("largest change", f"{largest}/255")]
    lines += [("amplified", f"{factor} times")] if factor > 1 else []
    alt = f"{name}, gray where nothing changed: " + ", ".join(map(" ".join, lines))
    return ImageCell(pixels, name, alt, lines, is_detail=is_detail)


def rank_classes(
    probabilities: Mapping[str, float] | None, classes: Sequence[str]
) -> list[tuple[str, float]]:
    """The entries of a row's probabilities by name, the largest first."""
    ranked = sorted((probabilities or {}).items(), key=lambda entry: -entry[1])
    return [(class_name(int(label), classes), share) for label, share in ranked]


def strip_of_row(
    row: Row,
    read: Callable[[str], Pixels],
    classes: Sequence[str],
    judges: Sequence[Mapping[str, Any]],
    mark: tuple[str, bool | None],
    with_label: bool = True,
) -> Strip:
    """The original image of a row, if it has one, the saved one, and their difference.

    Args:
        read: reads the picture of the row's field ``PREFIXfile``.
        judges: the predictions of each reference classifier, before and saved.
        mark: the outcome of the saved image, and whether it is a good one.
    """

    def cell(name: str, form: str, prefix: str, mark: tuple[str, bool | None]) -> ImageCell:
        shares = row.get("probabilities", {}).get(form) or {}
        predicted = row["predictions"][form]
        labels = [("classifier", predicted)]
        labels += [("target", row["target"])] if form == "saved" else []
        labels += [("reference", judge.get(form)) for judge in judges]
        lines = [(who, class_name(label, classes)) for who, label in labels if label is not None]
        if lines and str(predicted) in shares:
            lines[0] = ("classifier", f"{lines[0][1]}, {format_share(shares[str(predicted)])}")
        alt = "; ".join([name, *(f"{who}: {word}" for who, word in lines)])
        bars = rank_classes(shares, classes)
        return ImageCell(read(prefix), name, alt, lines, *mark, probabilities=bars)

    cells = [cell("result", "saved", "", mark)]
    if "original_file" in row:
        original = cell("original", "before", "original_", ("", None))
        cells = [original, *cells, difference_cell("difference", original.pixels, cells[0].pixels)]
    has_label = with_label and row["label"] is not None
    label = f"{class_name(row['label'], classes)}, " if has_label else ""
    return Strip(f"{label}image {row['image_id']}", cells)


def format_share(share: float) -> str:
    """In per cent; what rounds to 0 or 100 % and is neither keeps its digits."""
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return f"{100 * share:.2f}\N{NO-BREAK SPACE}%"
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def data_uri(pixels: Pixels) -> str:
    """The image as a PNG in a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
