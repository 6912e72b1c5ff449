"""Tiny ImageNet (tiny-imagenet), 200 classes, 64 x 64: the official zip as it is, or unpacked."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from scoreag.bounded import read_bytes
from scoreag.datasets import Labels, Pixels, Source, address, official, one_of
from scoreag.datasets.tiny_imagenet.archive import MEMBER, content, opened
from scoreag.download import fetch
from scoreag.files import data_folder
from scoreag.load import cut, shown

URL = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Stanford publishes none: this is what those who fetched it in the last years wrote down
DIGEST = "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
SPLITS = ("train", "val", "test")
SIDE = 64  # pixels

_NAME = "tiny-imagenet-200"
_DEEP = 8  # folders within folders; the data set has four


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of the data set, in its folder or in its archive, by their path in it.

    Args:
        listed: the names in a folder, none where there is no such folder.
        read: the bytes of a file; KeyError or FileNotFoundError where there is none.
    """

    where: Path
    listed: Callable[[str], list[str]]
    read: Callable[[str], bytes]


def load(
    what: str, root: str | Path | None = None, url: str | None = None, progress: bool = True
) -> Source:
    """The split "train" (500 images a class) or "val" (50); "" and "test" are "val".

    The labels of the official test images are secret, so it is on "val" that results are reported.
    Classes are counted as in wnids.txt, and named by the first word for them in words.txt.

    Args:
        root: holds tiny-imagenet-200.zip or the folder tiny-imagenet-200, or is that folder; else
            SCOREAG_DATA, else the cache folder.  Where it has none, the archive is fetched into
            it; a ``root`` that is given must be there.
        url: of the archive or of the folder it is in; else SCOREAG_TINY_IMAGENET_URL, else the
            official.
    """
    split = one_of(SPLITS, what or "val", "tiny-imagenet")

    def bring(folder: Path) -> None:
        place = address(URL, "SCOREAG_TINY_IMAGENET_URL", url)
        fetch(place, folder / f"{_NAME}.zip", DIGEST, progress)

    files = official("Tiny ImageNet", root, _found, bring)
    wnids = _lines(files, "wnids.txt")
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"{files.where}: wnids.txt names a class twice")
    names, labels = (_train if split == "train" else _val)(files, wnids)
    if not names:
        raise ValueError(f"{files.where} has no images of the {split} split")
    read = partial(_read, files, names, labels, progress)
    return Source(len(names), read, range(len(names)), _classes(files, wnids), names)


def at_hand(what: str, root: str | Path | None = None) -> bool:
    """Whether the files are there, so that nothing need be fetched."""
    return _found(data_folder(root, "Tiny ImageNet")) is not None


def _found(folder: Path) -> _Files | None:
    for place in (folder / _NAME, folder):
        if (place / "wnids.txt").is_file() or (place.name == _NAME and place.is_dir()):
            return _unpacked(place)
    archive = folder / f"{_NAME}.zip"
    return _packed(archive) if archive.is_file() else None


def _unpacked(place: Path) -> _Files:
    def listed(folder: str) -> list[str]:
        return os.listdir(place / folder) if (place / folder).is_dir() else []

    return _Files(place, listed, lambda name: read_bytes(place / name, MEMBER))


def _packed(path: Path) -> _Files:
    archive = opened(path)
    inside: dict[str, dict[str, None]] = {}  # what each folder has, folders too, in their order
    for member in archive.entries:
        folder, _, name = member.removeprefix(f"{_NAME}/").rpartition("/")
        if folder not in inside:
            parts = folder.split("/")[:_DEEP]
            for depth, part in enumerate(parts):
                inside.setdefault("/".join(parts[:depth]), {})[part] = None
        inside.setdefault(folder, {})[name] = None

    def listed(folder: str) -> list[str]:
        return [*filter(None, inside.get(folder, {}))]

    return _Files(path, listed, lambda name: content(archive, f"{_NAME}/{name}"))


def _lines(files: _Files, name: str) -> list[str]:
    """The lines of a text that are not empty."""
    try:
        text = files.read(name).decode("utf-8", "replace")
    except (KeyError, FileNotFoundError) as error:
        raise ValueError(
            f"{files.where} has no {name}: it is not Tiny ImageNet as published; "
            "remove it, and that is fetched"
        ) from error
    return [line.rstrip() for line in text.splitlines() if line.strip()]


_Listing = tuple[list[str], list[int]]


def _train(files: _Files, wnids: Sequence[str]) -> _Listing:
    """The images class by class, each class in the order of its images' numbers."""
    unknown = sorted({n for n in files.listed("train") if n[0] not in "._"} - set(wnids))
    if unknown:
        raise ValueError(f"{files.where} has the class {unknown[0]:.80}, which is not in wnids.txt")
    names: list[str] = []
    labels: list[int] = []
    for number, wnid in enumerate(wnids):
        folder = f"train/{wnid}/images"
        found = sorted(_pictures(files, folder), key=lambda name: (len(name), name))
        if not found:
            raise ValueError(f"{files.where} has no images in {folder:.120}, a class of wnids.txt")
        names += [f"{folder}/{name}" for name in found]
        labels += [number] * len(found)
    return names, labels


def _val(files: _Files, wnids: Sequence[str]) -> _Listing:
    """The images in the order of their annotations: name, class, and a box that is not read."""
    number = {wnid: i for i, wnid in enumerate(wnids)}
    left = set(_pictures(files, "val/images"))
    names, labels = [], []
    table = "val/val_annotations.txt"
    for line, text in enumerate(_lines(files, table), start=1):
        name, wnid, *_ = [*text.split("\t"), "", ""]
        if name not in left or wnid not in number:
            fault = (
                f"the class {shown(wnid)}, which is not in wnids.txt"
                if name in left
                else f"the image {shown(name)}, which is not in val/images, or is named twice"
            )
            raise ValueError(f"{files.where}: {table}, line {line}, names {fault}")
        left.remove(name)
        names.append(f"val/images/{name}")
        labels.append(number[wnid])
    if left:
        raise ValueError(f"{files.where}: {table} has no line for {min(left):.80}")
    return names, labels


def _pictures(files: _Files, folder: str) -> list[str]:
    names = files.listed(folder)
    return [n for n in names if n[0] != "." and n.lower().endswith((".jpeg", ".jpg"))]


def _classes(files: _Files, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first word for each class; where another has it, with the second or the wnid behind."""
    known = dict(line.partition("\t")[::2] for line in _lines(files, "words.txt"))
    names: dict[str, None] = {}
    for wnid in wnids:
        words = [word.strip() for word in known.get(wnid, "").split(",") if word.strip()]
        if not words:
            raise ValueError(f"{files.where}: words.txt has no name for the class {wnid:.80}")
        choices = [words[0], *(f"{words[0]} ({more})" for more in [*words[1:2], wnid])]
        free = [name for name in choices if name not in names]
        if not free:
            raise ValueError(f"{files.where}: words.txt names two classes {shown(choices[-1])}")
        names[free[0]] = None
    return tuple(names)


def _read(
    files: _Files, names: Sequence[str], labels: Sequence[int], progress: bool, positions: range
) -> tuple[Pixels, Labels]:
    silent = None if progress else True
    pixels = torch.empty(len(positions), 3, SIDE, SIDE, dtype=torch.uint8)
    bar = tqdm(positions, desc="reading", unit="image", delay=2, leave=False, disable=silent)
    for row, position in enumerate(bar):
        pixels[row] = _decoded(files, names[position])
    return pixels, torch.tensor([labels[i] for i in positions])


def _decoded(files: _Files, name: str) -> UInt8[Tensor, "channels height width"]:
    """The pixels of a JPEG; a grey one's are three times the same."""
    data = files.read(name)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            width, height = picture.size
            if (height, width) != (SIDE, SIDE):
                raise ValueError(f"it is {height} x {width} pixels, not {SIDE} x {SIDE}")
            return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    except MemoryError:
        raise
    except Exception as error:  # a damaged picture can raise anything
        reason = cut(str(error).partition(" <_io")[0], 200)
        raise ValueError(
            f"{files.where}: {name[:120]} is no whole JPEG of Tiny ImageNet: {reason}"
        ) from error
