"""Small images for a page: side by side, each with what classifiers say about it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

Lines = tuple[tuple[str, str], ...]  # who says what, e.g. ("classifier", "cat")
MARKS = {
    True: ("good", "\N{CHECK MARK}"),
    False: ("bad", "\N{MULTIPLICATION X}"),
    None: ("note", "\N{EN DASH}"),
}


@dataclass(frozen=True)
class ImageCell:
    """One image and its caption.

    Args:
        outcome: such as "fooled"; ``good`` puts a tick, a cross, or (None) a dash before it.
    """

    pixels: UInt8[Tensor, "channel height width"]
    name: str
    alt: str
    lines: Lines = ()
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


def data_uri(pixels: UInt8[Tensor, "channel height width"]) -> str:
    """The image as a PNG in a ``data:`` address."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
