"""A data set as EDM's tools write it: a zip or a folder of pictures, labeled by dataset.json."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from scoreag.data.source import Labels, Pixels, Source
from scoreag.io.bounded import (
    MAX_TABLE_BYTES,
    open_zip_archive,
    parse_json,
    read_bytes,
    read_zip_member,
)
from scoreag.io.images import decode_picture
from scoreag.io.progress import progress_bar
from scoreag.registry import short_repr, truncate_text

LABELS = "dataset.json"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MAX_PICTURE_BYTES = 64 << 20


@dataclass(frozen=True)
class _Files:
    """A zip or a folder: its members by name, and their bytes."""

    root: Path
    names: frozenset[str]
    read: Callable[[str, int], bytes]


def is_edm_dataset(path: Path) -> bool:
    """Whether a folder, or a zip archive, has EDM's table of labels."""
    if path.is_dir():
        return (path / LABELS).is_file()
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    with open_zip_archive(path) as archive:
        return LABELS in archive.namelist()


def load_edm_dataset(filename: str, classes: Sequence[str] = (), progress: bool = True) -> Source:
    """The pictures, in the order of their names, as EDM's training reads them.

    ``dataset.json`` has ``labels``: null, or pairs of a picture's name and its class, a number.
    The image ids are the positions.

    Args:
        classes: names by number, e.g. those of a classifier; the labels must be below their count.

    Raises:
        ValueError: no such archive or folder, a picture without a label, or labels of another kind.
    """
    path = Path(filename).expanduser()
    files = _open_folder(path) if path.is_dir() else _open_zip(path)
    if LABELS not in files.names:
        raise ValueError(f"{path} has no {LABELS}; it is no data set of EDM's dataset_tool.py")
    names = sorted(name for name in files.names if name.lower().endswith(_SUFFIXES))
    if not names:
        raise ValueError(f"{path} has no pictures beside {LABELS}")
    try:
        labels = _read_labels(files.read(LABELS, MAX_TABLE_BYTES), names, len(classes))
    except ValueError as error:
        raise ValueError(f"{path}: {LABELS}: {truncate_text(str(error), 300)}") from error

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = _read_pictures(files, [names[i] for i in positions], progress)
        return pixels, None if labels is None else torch.tensor([labels[i] for i in positions])

    known = tuple(classes) if labels is not None else ()
    return Source(len(names), read, range(len(names)), known, names, labels=labels)


def _open_zip(path: Path) -> _Files:
    if not path.is_file():
        raise ValueError(f"no archive or folder {str(path)!r}; give a zip of EDM's dataset_tool.py")
    archive = open_zip_archive(path)

    def read(name: str, most: int) -> bytes:
        try:
            return bytes(read_zip_member(archive, name, most))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    return _Files(path, frozenset(archive.namelist()), read)


def _open_folder(path: Path) -> _Files:
    found = (file for file in path.rglob("*") if file.is_file())
    names = frozenset(file.relative_to(path).as_posix() for file in found)
    return _Files(path, names, lambda name, most: read_bytes(path / name, most))


def _read_labels(text: bytes, names: Sequence[str], count: int) -> list[int] | None:
    """The class of each picture; None where the data set has none.

    Args:
        count: of the classes; 0 where it is not known.
    """
    table = parse_json(text)
    if not isinstance(table, Mapping) or "labels" not in table:
        raise ValueError('expected {"labels": [["00000/img00000000.png", 6], ...]}, or null')
    if table["labels"] is None:
        return None
    pairs: list[Any] = table["labels"] if isinstance(table["labels"], list) else [None]
    known: dict[str, int] = {}
    for pair in pairs:
        match pair:
            case [str(name), [int(label)] | int(label)] if not isinstance(label, bool):
                known[name.replace("\\", "/")] = label
            case _:
                raise ValueError(f"expected pairs of a name and a number, not {short_repr(pair)}")
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{len(missing)} pictures have no label, e.g. {missing[0]}")
    labels = [known[name] for name in names]
    for label in labels:
        if label < 0 or (count and label >= count):
            wanted = f"0..{count - 1}" if count else "0 or more"
            raise ValueError(f"the label {label}; expected {wanted}")
    return labels


def _read_pictures(files: _Files, names: Sequence[str], progress: bool) -> Pixels:
    bar = progress_bar(names, desc="reading", unit="image", show=progress, leave=False)
    found: list[Tensor] = []
    for name in bar:
        pixels = decode_picture(files.read(name, _MAX_PICTURE_BYTES), f"{files.root}: {name}")
        if found and pixels.shape != found[0].shape:
            raise ValueError(
                f"{files.root}: {name} is of the shape {tuple(pixels.shape)}, and the others are "
                f"{tuple(found[0].shape)}; EDM's tools write images of one size"
            )
        found.append(pixels)
    return torch.stack(found)


EDM_DATASET = SimpleNamespace(load=load_edm_dataset)
