"""Small images for a page: side by side, each with what was said of it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

MARKS = {
    True: ("good", "\N{CHECK MARK}"),
    False: ("bad", "\N{MULTIPLICATION X}"),
    None: ("note", "\N{EN DASH}"),
}


@dataclass(frozen=True)
class ImageCell:
    """One image and its caption.

    Args:
        lines: who says what, e.g. ("judge", "cat").
        outcome: in words, e.g. "fooled"; ``good`` puts a tick, a cross, or (None) a dash before it.
    """

    pixels: UInt8[Tensor, "channel height width"]
    name: str
    alt: str
    lines: tuple[tuple[str, str], ...] = ()
    outcome: str = ""
    good: bool | None = True


def gallery(strips: Sequence[str], min_width: int) -> str:
    """Strips side by side, each at least ``least`` rem wide, or as wide as the window."""
    return "\n".join([f'<div class="gallery" style="--least: {min_width}rem">', *strips, "</div>"])


def strip(title: str, cells: Sequence[ImageCell]) -> str:
    """Versions of one image in a row, under a title."""
    inside = "\n".join(_cell(cell) for cell in cells)
    heading = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    return (
        f'<figure class="strip">{heading}'
        f'<div class="cells" style="--columns: {len(cells)}">\n{inside}\n</div></figure>'
    )


def data_uri(pixels: UInt8[Tensor, "channel height width"]) -> str:
    """The image itself, as an address: a PNG in base 64."""
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _cell(cell: ImageCell) -> str:
    height, width = cell.pixels.shape[1:]
    lines = "".join(
        f'<span class="line"><i>{escape(who)}</i> {escape(says)}</span>' for who, says in cell.lines
    )
    return (
        f'<figure class="cell"><img src="{data_uri(cell.pixels)}" alt="{escape(cell.alt)}" '
        f'width="{width}" height="{height}"><figcaption>'
        f'<span class="name">{escape(cell.name)}</span>{_mark(cell)}{lines}</figcaption></figure>'
    )


def _mark(cell: ImageCell) -> str:
    if not cell.outcome:
        return ""
    kind, sign = MARKS[cell.good]
    return f'<span class="mark {kind}">{sign} {escape(cell.outcome)}</span>'
