"""Data sets in files of many pictures: WebDataset archives, and Parquet tables.

A path is one file, or a folder whose files are read in the order of their names.
"""

import json
import os
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tqdm import tqdm

from scoreag.data.source import Labels, Pixels, Source, index_labels
from scoreag.io.bounded import get_file_size
from scoreag.io.images import decode_picture
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
        labels: a word for each picture that has one.
    """

    files: list[Path]
    shards: "array[int]" = field(default_factory=lambda: array("l"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    labels: list[str] = field(default_factory=list)


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
    silent = None if progress else True
    for number, file in enumerate(tqdm(index.files, desc="listing", delay=2, disable=silent)):
        _list_members(file, number, index)
    names = [file.name for file in index.files]

    def read_bytes(position: int) -> tuple[bytes, str]:
        file = index.files[index.shards[position]]
        with file.open("rb") as archive:
            data = os.pread(archive.fileno(), index.sizes[position], index.offsets[position])
        return data, f"picture {position} of {file}"

    return _make_source(path, len(index.sizes), index.labels, read_bytes, size, classes, names)


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
    key = has_picture = has_label = None
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                vars(archive)["members"] = []  # else all headers stay in memory
                if not member.isreg():
                    continue
                name, _, extension = member.name.rpartition("/")[2].partition(".")
                sample = (member.name.rpartition("/")[0], name)
                if sample != key:
                    key, has_picture, has_label = sample, False, False
                if extension.lower() in PICTURE_EXTENSIONS and not has_picture:
                    has_picture = True
                    index.shards.append(number)
                    index.offsets.append(member.offset_data)
                    index.sizes.append(member.size)
                elif extension.lower() in LABEL_EXTENSIONS and not has_label:
                    has_label = _add_label(archive, member, extension, index)
    except (tarfile.TarError, EOFError) as error:
        reason = truncate_text(str(error), 100)
        raise ValueError(f"{file} is no whole tar archive without compression: {reason}") from error


def _add_label(
    archive: tarfile.TarFile, member: tarfile.TarInfo, extension: str, index: _Index
) -> bool:
    """Add the label in a member; False where there is none."""
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
    if label is None:
        return False
    index.labels.append(str(label))
    return True


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
    words: list[str] = []
    groups: list[tuple[Path, int]] = []
    begins = [0]
    own: tuple[str, ...] = ()
    for file in files:
        with open_parquet(file) as table:
            column = _image_column(file, table.schema_arrow.names)
            own = own or _class_names(table.schema_arrow.metadata)
            for group in range(table.num_row_groups):
                groups.append((file, group))
                begins.append(begins[-1] + table.metadata.row_group(group).num_rows)
            if LABEL_COLUMN in table.schema_arrow.names:
                labels = table.read([LABEL_COLUMN])[LABEL_COLUMN].to_pylist()
                words += [str(label) for label in labels if label is not None]
    if own and all(word.isdigit() and int(word) < len(own) for word in words):
        words = [own[int(word)] for word in words]
    cells: dict[int, list[Any]] = {}

    def read_bytes(position: int) -> tuple[bytes, str]:
        number = bisect_right(begins, position) - 1
        file, group = groups[number]
        if number not in cells:
            cells.clear()
            with open_parquet(file) as table:
                cells[number] = table.read_row_group(group, [column])[column].to_pylist()
        name = f"line {position} of {file}"
        return picture_bytes(cells[number][position - begins[number]]), name

    names = [file.name for file in files]
    return _make_source(path, begins[-1], words, read_bytes, size, classes or own, names)


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


def _make_source(
    path: str,
    count: int,
    words: Sequence[str],
    read_bytes: Callable[[int], tuple[bytes, str]],
    size: Size,
    classes: Sequence[str],
    names: Sequence[str],
) -> Source:
    """A source from encoded pictures, by position, and the words of their labels."""
    if not count:
        raise ValueError(f"{path!r} has no pictures ({', '.join(names[:3])})")
    if len(words) not in (0, count):
        raise ValueError(
            f"{path!r} has {count} pictures and {len(words)} labels; label all or none"
        )
    labels, found = index_labels(words, classes) if words else ([], ())

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pictures = []
        for position in positions:
            data, name = read_bytes(position)
            pictures.append(decode_picture(data, name, size))
            _check_alike(pictures, name)
        in_color = max(map(len, pictures))
        pixels = torch.stack([one.expand(in_color, -1, -1) for one in pictures])
        return pixels, torch.tensor([labels[i] for i in positions]) if words else None

    return Source(count, read, range(count), found, labels=labels if words else None)


def _check_alike(pictures: Sequence[torch.Tensor], name: str) -> None:
    """Refuse a picture of another size than the first; gray ones become RGB among these."""
    first, last = (" x ".join(map(str, one.shape[1:])) for one in (pictures[0], pictures[-1]))
    if first != last:
        raise ValueError(
            f"{short_repr(name)} is {last}, and the first is {first}: all must be alike; give a "
            "size (--size) to resize them"
        )


WEBDATASET = SimpleNamespace(load=load_webdataset)
PARQUET = SimpleNamespace(load=load_parquet)
