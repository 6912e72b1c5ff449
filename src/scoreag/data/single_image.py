"""One's own picture; resized only when a size is given."""

from collections.abc import Sequence
from pathlib import Path

import torch

from scoreag.data.source import Labels, Pixels, Source, class_index
from scoreag.io.images import read_picture


def load(
    filename: str,
    label: str | int | None = None,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """The picture at the path, whose image id is 0.

    Args:
        label: a class by number, or by name where ``classes`` is given; None leaves it unlabelled.
        size: (height, width) to resize its middle to.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise ValueError(f"no picture {filename!r}; give the path of a PNG or JPEG")
    labels = None if label is None else torch.tensor([class_index(label, classes)])

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        return read_picture(path, size)[None], labels

    return Source(1, read, (0,), tuple(classes) if label is not None else (), (path.name,))
