"""Tiny ImageNet (tiny-imagenet), 200 classes, 64 x 64: the official zip as it is, or unpacked."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from scoreag.data.source import Labels, Pixels, Source, find_or_download, pick_split, resolve_url
from scoreag.io.bounded import get_file_size, inflate, read_bytes
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
        list_folder: the names in a folder, none where there is no such folder.
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
        data_dir: holds tiny-imagenet-200.zip or the folder tiny-imagenet-200, or is that folder;
            as in ``find_or_download``.
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


_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY_LENGTHS = struct.Struct(
    "<4s24xHHH"
)  # of an entry: signature; of its name, extra field, comment
_ENTRY_FIELDS = struct.Struct(
    "<8xHH4xII4x14xI"
)  # flags, method, CRC-32, packed size, place of the file
_ENTRY_SIZE, _FILE_HEADER_SIZE = 46, 30  # bytes before the name, in the list and at the file itself
_STORED, _DEFLATED = 0, 8
MAX_MEMBER_BYTES = (
    1 << 24
)  # bytes that a member may have; the longest published one, words.txt, has 2.6 MB


@dataclass(frozen=True, eq=False)
class ZipIndex:
    """The list of an archive's members as it is, and where in it each name's entry begins."""

    path: Path
    directory: bytes
    entries: dict[str, int]


def open_zip(path: Path) -> ZipIndex:
    """The archive with the list of its members; their content is not touched."""
    get_file_size(path)
    try:
        with path.open("rb") as file:
            directory = _read_directory(file)
        return ZipIndex(path, directory, _parse_entries(directory))
    except (ValueError, struct.error) as error:
        raise ValueError(
            f"{path} is no whole zip archive: {error}; remove it, and it is fetched again"
        ) from error


def read_member(archive: ZipIndex, name: str) -> bytes:
    """The bytes of a member, whose checksum holds; KeyError where there is none of that name."""
    facts = _ENTRY_FIELDS.unpack_from(archive.directory, archive.entries[name])
    flags, method, checksum, packed, place = facts
    try:
        if flags & 1 or method not in (_STORED, _DEFLATED):
            raise ValueError(f"it is packed by method {method}, or encrypted")
        with archive.path.open("rb") as file:
            file.seek(place)
            head = file.read(_FILE_HEADER_SIZE)
            file.seek(sum(struct.unpack_from("<HH", head, 26)), 1)
            data = file.read(min(packed, MAX_MEMBER_BYTES + 1))
        if len(data) > MAX_MEMBER_BYTES:
            raise ValueError(f"it has {packed:,} bytes; expected {MAX_MEMBER_BYTES:,} at most")
        data = inflate(data, MAX_MEMBER_BYTES) if method == _DEFLATED else data
        if zlib.crc32(data) != checksum:
            raise ValueError("its checksum does not hold")
    except (ValueError, struct.error) as error:
        raise ValueError(f"{archive.path} is damaged at {name[:120]}: {error}") from error
    return data


def _read_directory(file: BinaryIO) -> bytes:
    """The list of members, which the end of the file tells the place of."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 20 - 22 - 0xFFFF))  # the longest end, and a 64-bit locator before it
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0:
        raise ValueError("it has no list of members at its end")
    length, place = struct.unpack_from("<II", tail, end + 12)
    if 0xFFFFFFFF in (length, place) and tail[max(0, end - 20) :].startswith(_LOCATOR):
        (at,) = struct.unpack_from("<Q", tail, end - 12)
        file.seek(min(at, size))
        signature, length, place = struct.unpack("<4s36xQQ", file.read(56))
        if signature != _END64:
            raise ValueError("its 64-bit list of members is not where it should be")
    if place + length > size:
        raise ValueError("the list of its members breaks off")
    file.seek(place)
    return file.read(length)


def _parse_entries(directory: bytes) -> dict[str, int]:
    entries: dict[str, int] = {}
    at = 0
    while at < len(directory):
        signature, name, extra, comment = _ENTRY_LENGTHS.unpack_from(directory, at)
        if signature != b"PK\1\2":
            raise ValueError(f"the list of its members is damaged after {len(entries):,} of them")
        start = at + _ENTRY_SIZE
        entries[directory[start : start + name].decode("utf-8", "replace")] = at
        at = start + name + extra + comment
    return entries
