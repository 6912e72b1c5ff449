"""Arrays in an .npz file: ``images``, and optionally ``labels`` and ``classes``; or one in .npy."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoreag.data.source import Labels, Pixels, Source, index_labels
from scoreag.io.bounded import get_file_size, read_npy, read_npz
from scoreag.io.images import check_images, to_uint8
from scoreag.registry import truncate_text

_Array = NDArray[Any]
_SAMPLES = {"images": "arr_0", "labels": "arr_1"}  # of OpenAI's scripts, which name no arrays
_CHUNK = 256  # images that are converted to 8 bits at a time, to save memory


def load_npz(filename: str, classes: Sequence[str] = ()) -> Source:
    """The arrays of the file; the image ids are the positions.

    A .npy file holds images alone.  ``arr_0`` and ``arr_1``, as OpenAI's scripts save samples, are
    images and labels.  Labels of the shape (batch, 1) are read as those of (batch,).

    images: uint8, or float in [0, 1], which is rounded to 8 bits; (batch, height, width, channels),
    (batch, channels, height, width), or (batch, height, width) for gray.  labels: integers.
    classes: the names of the classes by number.

    Args:
        classes: names by number, e.g. those of a classifier, among which the file's must be.
    """
    path = Path(filename).expanduser()
    found = _read_arrays(path)
    try:
        pixels = _to_pixels(found.pop("images"))
        names = _to_class_names(found.get("classes"))
        labels = _to_labels(found["labels"], len(pixels), names) if "labels" in found else None
        if labels is not None and names and classes:
            numbers, names = index_labels([names[i] for i in labels.tolist()], classes)
            labels = torch.tensor(numbers, dtype=torch.int64)
    except ValueError as error:
        raise ValueError(f"{path}: {truncate_text(str(error), 300)}") from error

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        rows = slice(positions.start, positions.stop)
        return pixels[rows], None if labels is None else labels[rows]

    return Source(len(pixels), read, range(len(pixels)), names)


def _read_arrays(path: Path) -> dict[str, _Array]:
    get_file_size(path)
    with path.open("rb") as file:
        first = file.read(12)
    if path.suffix.lower() == ".npy":
        return {"images": read_npy(path, path.stat().st_size)}
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no complete .npz file (it begins with {first!r}): use np.savez"
        )
    try:
        found, has = read_npz(path, ("images", "labels", "classes", *_SAMPLES.values()))
    except ValueError as error:
        reason = truncate_text(str(error).removeprefix(f"{path} "), 300)
        raise ValueError(f"{path} is damaged or holds objects, not arrays: {reason}") from error
    if "images" not in found and _SAMPLES["images"] in found:
        return {name: found[own] for name, own in _SAMPLES.items() if own in found}
    if "images" not in found:
        listed = truncate_text(", ".join(has[:100]), 200) or "nothing"
        raise ValueError(f"{path} has no array 'images'; it has: {listed}")
    return found


def _to_class_names(classes: _Array | None) -> tuple[str, ...]:
    if classes is None:
        return ()
    if classes.ndim != 1 or classes.dtype.kind not in "USiu":
        raise ValueError(
            f"classes are {truncate_text(str(classes.dtype), 80)} of the shape {classes.shape}; "
            "expected a list of words"
        )
    return tuple(str(name) for name in classes)


def _to_pixels(images: _Array) -> Pixels:
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
    if not (images.dtype.newbyteorder("=") == np.uint8 or images.dtype.kind == "f"):
        raise ValueError(
            f"images are {truncate_text(str(images.dtype), 80)}; expected uint8, or float in [0, 1]"
        )
    if images.dtype.kind != "f" or not images.size or images.ndim != 4:
        check_images(torch.from_numpy(np.ascontiguousarray(images)))
        return torch.from_numpy(np.array(images, order="C"))
    dtype = np.float64 if images.dtype.newbyteorder("=") == np.float64 else np.float32
    chunks = (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))
    floats = (torch.from_numpy(chunk.astype(dtype, order="C")) for chunk in chunks)
    return torch.cat([to_uint8(check_images(chunk)) for chunk in floats])


def _to_labels(labels: _Array, count: int, classes: tuple[str, ...]) -> Labels:
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {truncate_text(str(labels.dtype), 80)} of the shape {labels.shape}; "
            f"expected integers of the shape ({count},), one for each image"
        )
    highest = len(classes) - 1 if classes else np.iinfo(np.int64).max
    wrong = labels[(labels < 0) | (labels > highest)]
    if len(wrong):
        raise ValueError(f"labels hold {wrong[0]}; expected 0..{highest}")
    return torch.from_numpy(labels.astype(np.int64))


NPZ = SimpleNamespace(load=load_npz)
