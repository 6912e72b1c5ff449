"""Tiny ImageNet, 200 classes, 64 x 64: the official zip as it is, or unpacked."""

import io
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from scoreag.data.imagenet import WNID_NAMES
from scoreag.data.source import Labels, OfficialDataset, Pixels, Source
from scoreag.io.bounded import open_zip_archive, read_bytes, read_zip_member
from scoreag.io.progress import tqdm
from scoreag.registry import short_repr, truncate_text

IMAGE_SIZE = 64  # pixels
MAX_MEMBER_BYTES = 1 << 24  # the longest published file, words.txt, has 2.6 MB

_NAME = "tiny-imagenet-200"
_MAX_DEPTH = 8  # of folders in the archive; the data set has four


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of the data set, in a folder or an archive, by their path in it.

    Args:
        list_folder: the names in a folder; none if there is no such folder.
        read: the bytes of a file.
    """

    root: Path
    list_folder: Callable[[str], list[str]]
    read: Callable[[str], bytes | bytearray]


def _find(folder: Path, split: str) -> Path | None:
    for place in (folder / _NAME, folder):
        if (place / "wnids.txt").is_file() or (place.name == _NAME and place.is_dir()):
            return place
    archive = folder / f"{_NAME}.zip"
    return archive if archive.is_file() else None


def _open_folder(root: Path) -> _Files:
    def list_folder(folder: str) -> list[str]:
        return os.listdir(root / folder) if (root / folder).is_dir() else []

    return _Files(root, list_folder, lambda name: read_bytes(root / name, MAX_MEMBER_BYTES))


def _open_archive(path: Path) -> _Files:
    try:
        archive = open_zip_archive(path)
    except ValueError as error:
        raise ValueError(f"{error}; remove it, and it is fetched again") from error
    folders: defaultdict[str, dict[str, None]] = defaultdict(dict)  # what each one contains
    for member in archive.namelist():
        parts = member.removeprefix(f"{_NAME}/").split("/", _MAX_DEPTH)
        for depth, part in enumerate(parts):
            folders["/".join(parts[:depth])][part] = None

    def read(name: str) -> bytearray:
        member = f"{_NAME}/{name}"
        if member not in archive.NameToInfo:
            raise FileNotFoundError(member)
        try:
            return read_zip_member(archive, member, MAX_MEMBER_BYTES)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    return _Files(path, lambda folder: [*filter(None, folders.get(folder, {}))], read)


def _open(path: Path, split: str, progress: bool) -> Source:
    """The train split (500 images a class) or the validation split (50).

    The labels of the official test images are secret, so results are reported on "val", and "test"
    is another name for it.  Classes are numbered as in wnids.txt and named by words.txt.
    """
    files = _open_folder(path) if path.is_dir() else _open_archive(path)
    wnids = _read_lines(files, "wnids.txt")
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"{files.root}: wnids.txt names a class twice")
    names, labels = (_list_train if split == "train" else _list_val)(files, wnids)
    if not names:
        raise ValueError(f"{files.root} has no images of the {split} split")
    read = partial(_read_images, files, names, labels, progress)
    classes = _read_class_names(files, wnids)
    return Source(len(names), read, range(len(names)), classes, names, labels=labels)


def _read_lines(files: _Files, name: str) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = files.read(name).decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise ValueError(
            f"{files.root} has no {name}: it is not Tiny ImageNet as published; "
            "remove it, and that is fetched"
        ) from error
    return [line.rstrip() for line in text.splitlines() if line.strip()]


_Listing = tuple[list[str], list[int]]


def _list_train(files: _Files, wnids: Sequence[str]) -> _Listing:
    """The images class by class, each class in the order of its images' numbers."""
    unknown = sorted({n for n in files.list_folder("train") if n[0] not in "._"} - set(wnids))
    if unknown:
        raise ValueError(f"{files.root} has the class {unknown[0]:.80}, which is not in wnids.txt")
    names: list[str] = []
    labels: list[int] = []
    for number, wnid in enumerate(wnids):
        folder = f"train/{wnid}/images"
        found = sorted(_list_pictures(files, folder), key=lambda name: (len(name), name))
        if not found:
            raise ValueError(f"{files.root} has no images in {folder:.120}, a class of wnids.txt")
        names += [f"{folder}/{name}" for name in found]
        labels += [number] * len(found)
    return names, labels


def _list_val(files: _Files, wnids: Sequence[str]) -> _Listing:
    """The images in the order of their annotations: name, class, and a box that is ignored."""
    number = {wnid: i for i, wnid in enumerate(wnids)}
    left = set(_list_pictures(files, "val/images"))
    names, labels = [], []
    table = "val/val_annotations.txt"
    for line, text in enumerate(_read_lines(files, table), start=1):
        name, wnid, *_ = [*text.split("\t"), "", ""]
        if name not in left or wnid not in number:
            fault = (
                f"the class {short_repr(wnid)}, which is not in wnids.txt"
                if name in left
                else f"the image {short_repr(name)}, which is not in val/images, or is named twice"
            )
            raise ValueError(f"{files.root}: {table}, line {line}, names {fault}")
        left.remove(name)
        names.append(f"val/images/{name}")
        labels.append(number[wnid])
    if left:
        raise ValueError(f"{files.root}: {table} has no line for {min(left):.80}")
    return names, labels


def _list_pictures(files: _Files, folder: str) -> list[str]:
    names = files.list_folder(folder)
    return [n for n in names if n[0] != "." and n.lower().endswith((".jpeg", ".jpg"))]


def _read_class_names(files: _Files, wnids: Sequence[str]) -> tuple[str, ...]:
    """The name of each class in ImageNet; of others, its first word in words.txt.

    If that is taken, it is followed by the second word or the wnid.
    """
    known = dict(line.partition("\t")[::2] for line in _read_lines(files, "words.txt"))
    names: dict[str, None] = {}
    for wnid in wnids:
        words = [word.strip() for word in known.get(wnid, "").split(",") if word.strip()]
        words = [WNID_NAMES.get(wnid, words[0]), *words[1:]] if words else []
        if not words:
            raise ValueError(f"{files.root}: words.txt has no name for the class {wnid:.80}")
        choices = [words[0], *(f"{words[0]} ({more})" for more in [*words[1:2], wnid])]
        free = [name for name in choices if name not in names]
        if not free:
            raise ValueError(f"{files.root}: words.txt names two classes {short_repr(choices[-1])}")
        names[free[0]] = None
    return tuple(names)


def _read_images(
    files: _Files, names: Sequence[str], labels: Sequence[int], progress: bool, positions: range
) -> tuple[Pixels, Labels]:
    silent = None if progress else True
    pixels = torch.empty(len(positions), 3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    bar = tqdm(positions, desc="reading", unit="image", delay=2, leave=False, disable=silent)
    for row, position in enumerate(bar):
        pixels[row] = _decode_jpeg(files, names[position])
    return pixels, torch.tensor([labels[i] for i in positions])


def _decode_jpeg(files: _Files, name: str) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a JPEG; of a gray one, three equal channels."""
    data = files.read(name)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            width, height = picture.size
            if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(
                    f"it is {height} x {width} pixels, not {IMAGE_SIZE} x {IMAGE_SIZE}"
                )
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture can raise anything
        reason = truncate_text(str(error).partition(" <_io")[0], 200)
        raise ValueError(
            f"{files.root}: {name[:120]} is no complete JPEG of Tiny ImageNet: {reason}"
        ) from error


TINY_IMAGENET = OfficialDataset(
    name="tiny-imagenet",
    title="Tiny ImageNet",
    splits=("train", "val", "test"),
    default_split="val",
    url="https://cs231n.stanford.edu",
    # Stanford publishes no digest: this is the one that downloads of the last years report
    digests={
        f"{_NAME}.zip": "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
    },
    find=_find,
    open=_open,
)
