"""Data sets in files of many pictures: WebDataset archives, and Parquet tables.

A path is one file, or a folder whose files are read in the order of their names.
If most of the first pictures are in color, the gray ones become RGB.
"""

import json
import os
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import torch

from scoreag.data.source import (
    HIDDEN,
    NOT_A_PICTURE,
    Labels,
    Pixels,
    Source,
    are_in_color,
    index_labels,
    is_class_number,
)
from scoreag.io.bounded import get_file_size
from scoreag.io.images import decode_picture
from scoreag.io.progress import progress_bar
from scoreag.io.shards import open_parquet, picture_bytes
from scoreag.registry import short_repr, truncate_text

PICTURE_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm", "pgm")
LABEL_EXTENSIONS = ("cls", "json")  # a number or a word; a table with the entry "label"
IMAGE_COLUMNS, LABEL_COLUMN = ("image", "img"), "label"
MAX_LABEL_BYTES = 1 << 20
Size = tuple[int, int] | None


@dataclass
class _Index:
    """Where the pictures of archives are, and their labels, in the order of the archives.

    Args:
        shards, offsets, sizes: of each picture; a shard is a number of ``files``.
        labels: a word for each picture; None where it has no label.
        skipped: samples without a picture that is read, by the reason.
    """

    files: list[Path]
    shards: "array[int]" = field(default_factory=lambda: array("l"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[str | None] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Sample:
    """The members of an archive that are alike up to the first dot."""

    first: str
    key: tuple[str, str]
    has_picture: bool = False
    label: str | None = None


@dataclass(frozen=True)
class _Pictures:
    """Encoded pictures by position.

    Args:
        read: the bytes at a position.
        describe: its place, for messages.
        labels: a word for each; empty where none has one.
        files: of which they are the content.
    """

    path: str
    count: int
    read: Callable[[int], bytes]
    describe: Callable[[int], str]
    labels: Sequence[str]
    files: Sequence[str]
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)


def load_webdataset(
    path: str, size: Size = None, classes: Sequence[str] = (), progress: bool = True
) -> Source:
    """The pictures of WebDataset archives; their ids are their positions.

    The members of a sample follow each other and are alike up to the first dot: 000123.png and
    000123.cls, or 000123.json with an entry "label", a number or a word.  Others are skipped.

    Args:
        size: (height, width) to which the center of each picture is resized.
        classes: names by number, e.g. those of a classifier, among which the labels must be.
    """
    index = _Index(_list_files(path, "tar"))
    bar = progress_bar(index.files, desc="listing", unit="file", leave=False, show=progress)
    for number, file in enumerate(bar):
        _list_members(file, number, index)
    labels = [label for label in index.labels if label is not None]
    if labels and len(labels) < len(index.labels):
        raise ValueError(
            f"{path!r} has {len(index.labels)} pictures and {len(labels)} labels; label all or none"
        )

    def read(position: int) -> bytes:
        with index.files[index.shards[position]].open("rb") as archive:
            return os.pread(archive.fileno(), index.sizes[position], index.offsets[position])

    def describe(position: int) -> str:
        return f"picture {position} of {index.files[index.shards[position]]}"

    names = [file.name for file in index.files]
    found = _Pictures(path, len(index.sizes), read, describe, labels, names, index.skipped)
    return _make_source(found, size, classes)


def _list_files(path: str, suffix: str) -> list[Path]:
    """The file, or those of a folder."""
    place = Path(path).expanduser()
    files = sorted(place.glob(f"*.{suffix}")) if place.is_dir() else [place]
    files = [file for file in files if file.is_file()]
    if not files:
        raise ValueError(f"no .{suffix} files at {path!r}; give one, or a folder with some")
    for file in files:
        get_file_size(file)
    return files


def _list_members(file: Path, number: int, index: _Index) -> None:
    """Add the pictures of an archive to the index."""
    sample: _Sample | None = None
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                vars(archive)["members"] = []  # else all headers stay in memory
                if not member.isreg():
                    continue
                folder, _, whole = member.name.rpartition("/")
                name, _, extension = whole.partition(".")
                if _is_hidden(member.name):
                    index.skipped.setdefault(HIDDEN, []).append(member.name)
                    continue
                if sample is None or sample.key != (folder, name):
                    _end_sample(sample, index)
                    sample = _Sample(member.name, (folder, name))
                if extension.lower() in PICTURE_EXTENSIONS and not sample.has_picture:
                    sample.has_picture = True
                    index.shards.append(number)
                    index.offsets.append(member.offset_data)
                    index.sizes.append(member.size)
                elif extension.lower() in LABEL_EXTENSIONS and sample.label is None:
                    sample.label = _read_label(archive, member, extension)
            _end_sample(sample, index)
    except (tarfile.TarError, EOFError) as error:
        reason = truncate_text(str(error), 100)
        raise ValueError(f"{file} is no whole tar archive without compression: {reason}") from error


def _is_hidden(member: str) -> bool:
    """Whether a part of the name begins with a dot, as .ipynb_checkpoints and ._1.png of macOS."""
    return any(part[0] == "." and part != "." for part in PurePosixPath(member).parts)


def _end_sample(sample: _Sample | None, index: _Index) -> None:
    """Keep the label of a picture; what has no picture is skipped."""
    if sample is not None and sample.has_picture:
        index.labels.append(sample.label)
    elif sample is not None:
        index.skipped.setdefault(NOT_A_PICTURE, []).append(sample.first)


def _read_label(archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> str | None:
    """The label in a member; None where there is none."""
    content = archive.extractfile(member) if member.size <= MAX_LABEL_BYTES else None
    if content is None:
        raise ValueError(f"{member.name} has {member.size:,} bytes, too many for a label")
    label: Any = content.read().decode("utf-8", errors="replace").strip()
    if extension.lower() == "json":
        try:
            table = json.loads(label)
            label = table.get("label") if isinstance(table, dict) else None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{member.name} is no JSON: {error!s:.100}") from error
    return None if label is None else str(label)


def load_parquet(
    path: str, size: Size = None, classes: Sequence[str] = (), progress: bool = True
) -> Source:
    """The pictures of Parquet tables; their ids are their lines.

    The column ``image`` or ``img`` holds encoded pictures, as bytes or as in Hugging Face data
    sets; ``label`` holds numbers or words.

    Args:
        size: (height, width) to which the center of each picture is resized.
        classes: names by number, e.g. those of a classifier, among which the labels must be.
    """
    files = _list_files(path, "parquet")
    groups, begins, words, own = _list_groups(files)
    if len(words) not in (0, begins[-1]):
        raise ValueError(
            f"{path!r} has {begins[-1]} pictures and {len(words)} labels; label all or none"
        )
    if own and all(is_class_number(word) and int(word) < len(own) for word in words):
        words = [own[int(word)] for word in words]
    cells: dict[int, list[Any]] = {}

    def read(position: int) -> bytes:
        number = bisect_right(begins, position) - 1
        file, group, column = groups[number]
        if number not in cells:
            cells.clear()
            with open_parquet(file) as table:
                cells[number] = table.read_row_group(group, [column])[column].to_pylist()
        return picture_bytes(cells[number][position - begins[number]])

    def describe(position: int) -> str:
        return f"line {position} of {groups[bisect_right(begins, position) - 1][0]}"

    names = [file.name for file in files]
    found = _Pictures(path, begins[-1], read, describe, words, names)
    return _make_source(found, size, classes or own)


def _list_groups(
    files: Sequence[Path],
) -> tuple[list[tuple[Path, int, str]], list[int], list[str], tuple[str, ...]]:
    """The groups of lines: file, number, column; where each begins; labels; names of classes."""
    words: list[str] = []
    groups: list[tuple[Path, int, str]] = []
    begins = [0]
    own: tuple[str, ...] = ()
    for file in files:
        with open_parquet(file) as table:
            column = _image_column(file, table.schema_arrow.names)
            own = own or _class_names(table.schema_arrow.metadata)
            for group in range(table.num_row_groups):
                groups.append((file, group, column))
                begins.append(begins[-1] + table.metadata.row_group(group).num_rows)
            if LABEL_COLUMN in table.schema_arrow.names:
                labels = table.read([LABEL_COLUMN])[LABEL_COLUMN].to_pylist()
                words += [str(label) for label in labels if label is not None]
    return groups, begins, words, own


def _image_column(file: Path, names: Sequence[str]) -> str:
    for name in IMAGE_COLUMNS:
        if name in names:
            return name
    raise ValueError(
        f"{file} has no column 'image'; it has: {truncate_text(', '.join(names), 200)}"
    )


def _class_names(metadata: Any) -> tuple[str, ...]:
    """The names of the classes in the features of a Hugging Face data set; else none."""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = features[LABEL_COLUMN]["names"]
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def _make_source(found: _Pictures, size: Size, classes: Sequence[str]) -> Source:
    """A source of pictures, their labels numbered by ``classes``."""
    skipped = {why: tuple(some) for why, some in found.skipped.items()}
    if not found.count:
        also = "".join(f"; {len(some)} {why}, e.g. {some[0]}" for why, some in skipped.items())
        raise ValueError(f"{found.path!r} has no pictures ({', '.join(found.files[:3])}){also}")
    words, names = found.labels, tuple[str, ...]()
    labels: list[int] = []
    if words:
        labels, names = index_labels(words, classes, found.describe)

    @cache
    def is_in_color() -> bool:
        return are_in_color(map(found.read, range(found.count)))

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        in_color = is_in_color()
        pictures: list[torch.Tensor] = []
        for position in positions:
            name = found.describe(position)
            pictures.append(decode_picture(found.read(position), name, size))
            _check_alike(pictures, name, in_color)
        pixels = torch.stack([one.expand(3 if in_color else 1, -1, -1) for one in pictures])
        return pixels, torch.tensor([labels[i] for i in positions]) if words else None

    ids = range(found.count)
    return Source(len(ids), read, ids, names, skipped=skipped, labels=labels if words else None)


def _check_alike(pictures: Sequence[torch.Tensor], name: str, in_color: bool) -> None:
    """Refuse a last picture of another size than the first, or in color among gray ones."""
    if len(pictures[-1]) == 3 and not in_color:
        raise ValueError(
            f"{short_repr(name)} is in color, and most pictures are gray: convert it to gray, "
            "or the others to RGB"
        )
    first, last = (" x ".join(map(str, one.shape[1:])) for one in (pictures[0], pictures[-1]))
    if first != last:
        raise ValueError(
            f"{short_repr(name)} is {last}, and the first is {first}: all must be alike; give a "
            "size (--size) to resize them"
        )


WEBDATASET = SimpleNamespace(load=load_webdataset)
PARQUET = SimpleNamespace(load=load_parquet)
