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

from scoreag.data.source import Labels, Pixels, Source, find_or_download, pick_split, resolve_url
from scoreag.data.zip_reader import MAX_MEMBER_BYTES, open_zip, read_member
from scoreag.io.bounded import read_bytes
from scoreag.io.download import download_file
from scoreag.io.filesystem import data_folder
from scoreag.registry import short_repr, truncate_text

URL = "https://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Stanford publishes none: this is what those who fetched it in the last years wrote down
DIGEST = "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
SPLITS = ("train", "val", "test")
IMAGE_SIZE = 64  # pixels

_NAME = "tiny-imagenet-200"
_MAX_DEPTH = 8  # folders within folders; the data set has four


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of the data set, in its folder or in its archive, by their path in it.

    Args:
        listed: the names in a folder, none where there is no such folder.
        read: the bytes of a file; KeyError or FileNotFoundError where there is none.
    """

    root: Path
    list_folder: Callable[[str], list[str]]
    read: Callable[[str], bytes]


def load(
    split_name: str,
    data_dir: str | Path | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Source:
    """The split "train" (500 images a class) or "val" (50); "" and "test" are "val".

    The labels of the official test images are secret, so it is on "val" that results are reported.
    Classes are counted as in wnids.txt, and named by the first word for them in words.txt.

    Args:
        data_dir: holds tiny-imagenet-200.zip or the folder tiny-imagenet-200, or is that folder; else
            SCOREAG_DATA, else the cache folder.  Where it has none, the archive is fetched into
            it; a ``data_dir`` that is given must be there.
        url: of the archive or of the folder it is in; else SCOREAG_TINY_IMAGENET_URL, else the
            official.
    """
    split = pick_split(SPLITS, split_name or "val", "tiny-imagenet")

    def bring(folder: Path) -> None:
        place = resolve_url(URL, "SCOREAG_TINY_IMAGENET_URL", url)
        download_file(place, folder / f"{_NAME}.zip", DIGEST, progress)

    files = find_or_download("Tiny ImageNet", data_dir, _find_files, bring)
    wnids = _read_lines(files, "wnids.txt")
    if len(set(wnids)) < len(wnids):
        raise ValueError(f"{files.root}: wnids.txt names a class twice")
    names, labels = (_list_train if split == "train" else _list_val)(files, wnids)
    if not names:
        raise ValueError(f"{files.root} has no images of the {split} split")
    read = partial(_read_images, files, names, labels, progress)
    return Source(len(names), read, range(len(names)), _read_class_names(files, wnids), names)


def is_cached(split_name: str, data_dir: str | Path | None = None) -> bool:
    """Whether the files are there, so that nothing need be fetched."""
    return _find_files(data_folder(data_dir, "Tiny ImageNet")) is not None


def _find_files(folder: Path) -> _Files | None:
    for place in (folder / _NAME, folder):
        if (place / "wnids.txt").is_file() or (place.name == _NAME and place.is_dir()):
            return _open_folder(place)
    archive = folder / f"{_NAME}.zip"
    return _open_archive(archive) if archive.is_file() else None


def _open_folder(place: Path) -> _Files:
    def listed(folder: str) -> list[str]:
        return os.listdir(place / folder) if (place / folder).is_dir() else []

    return _Files(place, listed, lambda name: read_bytes(place / name, MAX_MEMBER_BYTES))


def _open_archive(path: Path) -> _Files:
    archive = open_zip(path)
    inside: dict[str, dict[str, None]] = {}  # what each folder has, folders too, in their order
    for member in archive.entries:
        folder, _, name = member.removeprefix(f"{_NAME}/").rpartition("/")
        if folder not in inside:
            parts = folder.split("/")[:_MAX_DEPTH]
            for depth, part in enumerate(parts):
                inside.setdefault("/".join(parts[:depth]), {})[part] = None
        inside.setdefault(folder, {})[name] = None

    def listed(folder: str) -> list[str]:
        return [*filter(None, inside.get(folder, {}))]

    return _Files(path, listed, lambda name: read_member(archive, f"{_NAME}/{name}"))


def _read_lines(files: _Files, name: str) -> list[str]:
    """The lines of a text that are not empty."""
    try:
        text = files.read(name).decode("utf-8", "replace")
    except (KeyError, FileNotFoundError) as error:
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
    """The images in the order of their annotations: name, class, and a box that is not read."""
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
    """The first word for each class; where another has it, with the second or the wnid behind."""
    known = dict(line.partition("\t")[::2] for line in _read_lines(files, "words.txt"))
    names: dict[str, None] = {}
    for wnid in wnids:
        words = [word.strip() for word in known.get(wnid, "").split(",") if word.strip()]
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
    """The pixels of a JPEG; a gray one's are three times the same."""
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
            f"{files.root}: {name[:120]} is no whole JPEG of Tiny ImageNet: {reason}"
        ) from error
