"""Arrays in an .npz file: ``images``, and where wanted ``labels`` and ``classes``."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoreag.datasets import Labels, Pixels, Source, numbered
from scoreag.images import check_images, to_uint8

_Array = NDArray[Any]


def load(what: str, classes: Sequence[str] = ()) -> Source:
    """The arrays of the file ``what``; the image ids are the positions.

    images: uint8, or float in [0, 1], which is rounded to 8 bits; (batch, height, width, channels),
    (batch, channels, height, width), or (batch, height, width) for grey.  labels: integers.
    classes: what the labels count, by name.

    Args:
        classes: names by number, e.g. those of a classifier, which the file's classes must be of.
    """
    path = Path(what).expanduser()
    arrays = _opened(path)
    try:
        pixels = _pixels(arrays["images"])
        names = tuple(str(name) for name in arrays.get("classes", ()))
        labels = _labels(arrays["labels"], len(pixels), names) if "labels" in arrays else None
        if labels is not None and names and classes:
            numbers, names = numbered([names[i] for i in labels.tolist()], classes)
            labels = torch.tensor(numbers, dtype=torch.int64)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        rows = slice(positions.start, positions.stop)
        return pixels[rows], None if labels is None else labels[rows]

    return Source(len(pixels), read, range(len(pixels)), names)


def _opened(path: Path) -> dict[str, _Array]:
    with path.open("rb") as file:
        first = file.read(12)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no whole .npz file (it begins with {first!r}): use np.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            has = list(file.keys())
            arrays = {key: file[key] for key in ("images", "labels", "classes") if key in has}
    except (ValueError, EOFError, OSError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} is damaged or holds objects, not arrays: {reason}") from error
    if "images" not in arrays:
        raise ValueError(f"{path} has no array 'images'; it has: {', '.join(has) or 'nothing'}")
    return arrays


def _pixels(images: _Array) -> Pixels:
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim == 4:
        last, second = images.shape[3] in (1, 3), images.shape[1] in (1, 3)
        if last and second:
            raise ValueError(
                f"images of the shape {images.shape} can be read in two ways; "
                "their height and width must not be 1 or 3"
            )
        images = np.moveaxis(images, 3, 1) if last else images
    native = images.astype(images.dtype.newbyteorder("="), copy=True)
    if not (native.dtype == np.uint8 or native.dtype.kind == "f"):
        raise ValueError(f"images are {native.dtype}; expected uint8, or float in [0, 1]")
    if native.dtype.kind == "f" and native.dtype != np.float64:
        native = native.astype(np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(native))
    checked = check_images(tensor)
    return tensor if tensor.dtype == torch.uint8 else to_uint8(checked)


def _labels(labels: _Array, count: int, classes: tuple[str, ...]) -> Labels:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {labels.dtype} of the shape {labels.shape}; "
            f"expected integers of the shape ({count},), one for each image"
        )
    highest = len(classes) - 1 if classes else np.iinfo(np.int64).max
    wrong = labels[(labels < 0) | (labels > highest)]
    if len(wrong):
        raise ValueError(f"labels hold {wrong[0]}; expected 0..{highest}")
    return torch.from_numpy(labels.astype(np.int64))
