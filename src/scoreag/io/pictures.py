"""The pictures of a run on disk, each in a file or many in a shard; written before their rows.

images/000123.png                originals/000123.png            up to 10,000 images
images/012xxx/012345.png         originals/012xxx/012345.png     above
images/000012.tar or .parquet    both, of about a thousand images; 000012.part until complete
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import atomic_write
from scoreag.io.manifest import parse_spans, read_manifest
from scoreag.io.records import (
    IMAGE_KINDS,
    Row,
    append_bytes,
    files_intact,
    iter_lines,
    picture_path,
)
from scoreag.io.resume import Store
from scoreag.io.shards import (
    ShardReader,
    encode_members,
    finish_parquet,
    finish_tar,
    import_pyarrow,
    iter_members,
    match_members,
    open_shard,
)

FORMATS = {"png": "png", "webdataset": "tar", "parquet": "parquet"}  # and the suffix of the files
MAX_FLAT_IMAGES = 10_000  # in one folder
SHARD_IMAGES = 1024  # rounded down to whole batches
_OPEN_SHARDS = 16  # that are read at a time
PREFIXES = ("", "original_")  # of the entries of a row for its pictures


@dataclass(frozen=True)
class EncodedBatch:
    """The rows of a batch, without the places of its pictures, and the pictures as PNG by role."""

    rows: Sequence[Row]
    pictures: Sequence[Mapping[str, bytes]]


def open_pictures(
    folder: Path, form: str, batches: Sequence[Sequence[int]], in_folders: bool
) -> Store:
    """The pictures of a run whose ``batches`` are image ids.

    Raises:
        ValueError: pyarrow is not installed, which the format ``parquet`` needs.
    """
    if form == "png":
        return PictureFiles(folder, in_folders)
    if form == "parquet":
        import_pyarrow()
    return PictureShards(folder, form, batches)


def describe_pictures(form: str, images: int) -> dict[str, Any]:
    """The entry of a manifest for pictures that are not each a file in one folder."""
    if form == "png":
        return {"pictures": {"format": form, "in_folders": True}} if is_large(images) else {}
    return {"pictures": {"format": form, "shard_images": SHARD_IMAGES}}


def is_large(images: int) -> bool:
    """Whether a run's pictures are in several folders."""
    return images > MAX_FLAT_IMAGES


def owned_pictures(folder: Path) -> Iterator[str]:
    """The pictures that the manifest of a run and its rows name, which may be missing."""
    manifest: dict[str, Any] = {}
    ids: set[int] = set()
    with suppress(ValueError, AttributeError):
        manifest = read_manifest(folder)
        ids.update(parse_spans(manifest.get("image_ids", "")))
    for line in iter_lines(folder):
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            ids.add(int(json.loads(line)["image_id"]))
    in_folders = manifest.get("pictures") is not None
    yield from (picture_path(kind, i, in_folders) for kind in IMAGE_KINDS for i in ids)
    for file in folder.glob("images/[0-9]*.*") if in_folders else ():
        if file.suffix != ".png" and file.stem.isdigit() and int(file.stem) < len(ids):
            yield f"images/{file.name}"


@dataclass(frozen=True)
class PictureFiles:
    """A PNG file for each picture."""

    folder: Path
    in_folders: bool = False

    def resume(self, complete: bytearray) -> None:
        """Nothing is to be prepared."""

    def is_intact(self, number: int, row: Row) -> bool:
        path = picture_path("images", row["image_id"], self.in_folders)
        return bool(row["file"] == path) and files_intact(self.folder, row)

    def write(self, batches: Sequence[tuple[int, EncodedBatch]]) -> list[Row]:
        pairs = [
            pair for _, one in batches for pair in zip(one.rows, one.pictures, strict=True)
        ]  # fmt: skip
        return [{**row, **self._write_row(row["image_id"], pictures)} for row, pictures in pairs]

    def _write_row(self, image_id: int, pictures: Mapping[str, bytes]) -> Row:
        """Write the pictures of a row; its entries for them."""
        files = {}
        for (role, data), kind in zip(pictures.items(), IMAGE_KINDS, strict=False):
            files[role] = picture_path(kind, image_id, self.in_folders)
            path = self.folder / files[role]
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, partial(Path.write_bytes, data=data))
            _check_written(path, 0, data)
        return _place_entries(files, pictures)

    def commit(self) -> None:
        """Every file is complete."""


def _place_entries(files: Mapping[str, str], pictures: Mapping[str, bytes]) -> Row:
    """The entries of a row for the files of its pictures and their digests."""
    digests = {f"{role}sha256": hashlib.sha256(pictures[role]).hexdigest() for role in files}
    return {f"{role}file": file for role, file in files.items()} | digests


class PictureShards:
    """Pictures in shards of whole batches, which grow in the order of their batches.

    A batch waits in memory until those before it in its shard are written.
    """

    def __init__(self, folder: Path, form: str, batches: Sequence[Sequence[int]]) -> None:
        self.folder, self.form, self.batches = folder, form, batches
        self.per_shard = max(1, SHARD_IMAGES // max(1, len(batches[0]) if batches else 1))
        self.written: dict[int, int] = {}  # batches of each shard that was begun
        self.waiting: dict[int, EncodedBatch] = {}
        self.readers: OrderedDict[int, ShardReader] = OrderedDict()

    def resume(self, complete: bytearray) -> None:
        """Cut each unfinished shard behind its last batch before which all are complete."""
        while self.readers:
            self.readers.popitem()[1].close()
        for shard in range(-(-len(self.batches) // self.per_shard)):
            numbers, part = self._numbers(shard), self._path(shard, "part")
            count = next((i for i, n in enumerate(numbers) if not complete[n]), len(numbers))
            if count == len(numbers) and self._path(shard).is_file():
                part.unlink(missing_ok=True)
                continue
            count = self._reopen(shard, count)
            for n in numbers[count:]:
                complete[n] = 0
            if count:
                self.written[shard] = count
        self.commit()

    def _reopen(self, shard: int, count: int) -> int:
        """Make a shard a part of its first batches; how many it has."""
        file, part = self._path(shard), self._path(shard, "part")
        if self.form == "webdataset" and file.is_file():
            os.replace(file, part)
        file.unlink(missing_ok=True)
        ends = self._find_ends(shard)[:count] if part.is_file() else []
        if ends:
            os.truncate(part, ends[-1])
        else:
            part.unlink(missing_ok=True)
        return len(ends)

    def _find_ends(self, shard: int) -> list[int]:
        """The bytes behind each whole batch of a part, up to the first damage."""
        ends: list[int] = []
        with self._path(shard, "part").open("rb") as file:
            members = iter_members(file)
            for number in self._numbers(shard):
                end = match_members(members, self.batches[number])
                if end is None:
                    break
                ends.append(end)
        return ends

    def is_intact(self, number: int, row: Row) -> bool:
        shard, name = number // self.per_shard, row["file"]
        if name != self._path(shard).relative_to(self.folder).as_posix():
            return False
        prefixes = [prefix for prefix in PREFIXES if f"{prefix}file" in row]
        try:
            reader = self._reader(shard)
            pictures = [reader.read(row, prefix) for prefix in prefixes]
        except (OSError, ValueError, LookupError, TypeError, OverflowError):
            return False
        found = [hashlib.sha256(data).hexdigest() for data in pictures]
        return found == [row.get(f"{prefix}sha256") for prefix in prefixes] and all(
            row[f"{prefix}file"] == name for prefix in prefixes
        )

    def _reader(self, shard: int) -> ShardReader:
        if shard not in self.readers:
            paths = (self._path(shard), self._path(shard, "part"))
            file = next((path for path in paths if path.is_file()), paths[0])
            self.readers[shard] = open_shard(file, self.form == "parquet")
            if len(self.readers) > _OPEN_SHARDS:
                self.readers.popitem(last=False)[1].close()
        self.readers.move_to_end(shard)
        return self.readers[shard]

    def write(self, batches: Sequence[tuple[int, EncodedBatch]]) -> list[Row]:
        self.waiting.update(batches)
        shards = sorted({number // self.per_shard for number, _ in batches})
        return [row for shard in shards for row in self._append(shard)]

    def _append(self, shard: int) -> list[Row]:
        """Write the batches of a shard whose turn it is; their rows."""
        first, begin = self._numbers(shard).start, self.written.setdefault(shard, 0)
        rows: list[Row] = []
        pictures: list[Mapping[str, bytes]] = []
        while (number := first + self.written[shard]) in self.waiting:
            batch = self.waiting.pop(number)
            rows += batch.rows
            pictures += batch.pictures
            self.written[shard] += 1
        if not rows:
            return []
        data, offsets = encode_members(rows, pictures)
        part = self._path(shard, "part")
        part.parent.mkdir(exist_ok=True)
        start = append_bytes(part, data)
        _check_written(part, start, data)
        line = sum(len(self.batches[first + i]) for i in range(begin))
        name = self._path(shard).relative_to(self.folder).as_posix()
        placed = []
        for i, row in enumerate(rows):
            entries: Row = _place_entries(dict.fromkeys(pictures[i], name), pictures[i])
            for role, offset in zip(pictures[i], offsets[i], strict=True):
                entries[f"{role}offset"] = line + i if self.form == "parquet" else start + offset
            placed.append({**row, **entries})
        return placed

    def commit(self) -> None:
        finish = finish_tar if self.form == "webdataset" else finish_parquet
        whole = [s for s, count in self.written.items() if count == len(self._numbers(s))]
        for shard in whole:
            finish(self._path(shard, "part"), self._path(shard))
            del self.written[shard]

    def _numbers(self, shard: int) -> range:
        """The batches of a shard."""
        first = shard * self.per_shard
        return range(first, min(first + self.per_shard, len(self.batches)))

    def _path(self, shard: int, suffix: str = "") -> Path:
        return self.folder / f"images/{shard:06d}.{suffix or FORMATS[self.form]}"


def _check_written(path: Path, start: int, data: bytes) -> None:
    with path.open("rb") as file:
        file.seek(start)
        if file.read(len(data) + 1) != data:
            raise OSError(f"{path} does not hold what was written to it")
