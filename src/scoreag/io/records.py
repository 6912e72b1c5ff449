"""Rows on disk: a line of JSON for each image, written after the pictures that it names.

A line ends with a digest of itself and of the run's seal, by which a row that was changed, cut off
or copied from another run is recognized.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write, check_regular_file, file_sha256, resolve_inside
from scoreag.io.images import decode_png, read_png, to_uint8, write_png
from scoreag.io.manifest import parse_spans, read_manifest, verify_seal
from scoreag.io.run_dir import ROWS

Row: TypeAlias = dict[str, Any]
Fields: TypeAlias = Mapping[str, tuple[type, ...]]  # the allowed types of each entry of a row
Pixels: TypeAlias = UInt8[Tensor, "batch channels height width"]
SaveBatch: TypeAlias = Callable[[], list[Row]]  # writes the pictures of a batch; its rows
T = TypeVar("T")

DIGEST = "digest"
NONE_TYPE = type(None)
IMAGE_KINDS = ("images", "originals")  # the pictures of a run, each in a folder of its own
PICTURE_FIELDS: Fields = {"image_id": (int,), **dict.fromkeys(("file", "sha256"), (str,))}
OPTIONAL_FIELDS: Fields = {
    **dict.fromkeys(("original_file", "original_sha256", "source"), (str,)),
    **dict.fromkeys(("distances", "judge", "probabilities"), (dict,)),
}
RERUN = "give the command of the run again, and it is made again"


def seal_row(row: Mapping[str, Any], seal: str) -> bytes:
    """A row as a line, which ends with the digest of the run's ``seal`` and of all before it."""
    text = json.dumps(row, allow_nan=False)
    digest = hashlib.sha256(f"{seal}\n{text}".encode()).hexdigest()[:16]
    return (json.dumps({**row, DIGEST: digest}) + "\n").encode()


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Append lines and sync them to disk; after a failure none of them is there."""
    remaining = memoryview(_encode_rows(folder, rows))
    with (folder / ROWS).open("ab", buffering=0) as file:  # else a write is retried on close
        before = file.tell()
        try:
            while remaining:
                remaining = remaining[file.write(remaining) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(folder / ROWS, before)
            raise OSError(error.errno, error.strerror, str(folder / ROWS)) from error


def replace_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Replace the file, unless it has exactly these rows."""
    file, text = folder / ROWS, _encode_rows(folder, rows)
    if not file.exists() or file.read_bytes() != text:
        atomic_write(file, lambda temp: temp.write_bytes(text))


def read_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> list[Row]:
    """The intact rows of the run with this manifest."""
    return [row for _, row in _iter_rows(folder) if row is not None and not row_error(row, fields)]


def read_complete_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> list[Row]:
    """All rows of a finished run; a missing or a changed row is an error."""
    file = folder / ROWS
    rows: dict[Any, Row] = {}
    for number, row in _iter_rows(folder):
        fault = "it is not as the run wrote it" if row is None else row_error(row, fields)
        if row is None or fault or row["image_id"] in rows:
            fault = fault or f"image {row['image_id'] if row else ''} is there twice"
            raise ValueError(f"{file}, line {number}: {fault}; {RERUN}")
        rows[row["image_id"]] = row
    expected = read_manifest(folder).get("images", len(rows))
    if len(rows) != expected:
        raise ValueError(f"{file} has {len(rows)} rows of {expected}; {RERUN}")
    return [*rows.values()]


def row_error(row: Row, fields: Fields) -> str:
    """A description of the first entry that is missing or of another type; "" if there is none."""
    optional = {name: kinds for name, kinds in OPTIONAL_FIELDS.items() if name in row}
    for name, kinds in {**fields, **optional}.items():
        value = row.get(name)
        is_bool = isinstance(value, bool) and bool not in kinds  # True is an int, too
        if name not in row or is_bool or not isinstance(value, kinds):
            came = f"{value!r:.60}" if name in row else "missing"
            return f"{name} is {came}; expected {' or '.join(kind.__name__ for kind in kinds)}"
    return ""


def resume_rows(
    folder: Path,
    batches: Sequence[Sequence[int]],
    fields: Fields,
    compute: Callable[[int, Callable[[int], Any]], SaveBatch],
    make_bar: Callable[[int], "tqdm[Any]"],
    write_every: int = 1,
    is_intact: Callable[[Row], bool] = lambda row: True,
) -> list[Row]:
    """The rows of all images, in order; complete batches in ``folder`` are not computed again.

    Args:
        batches: the image ids that are computed together; a batch with a missing row is repeated.
        compute: (batch number, function that advances the bar) -> function that saves the batch.
        make_bar: number of finished images -> progress bar.
        write_every: images between two writes; an interruption writes, too.
        is_intact: whether the files of a row are unchanged.
    """
    done = _keep_complete_batches(folder, batches, fields, is_intact)
    pending = [number for number, ids in enumerate(batches) if ids[0] not in done]
    with make_bar(len(done)) as bar:
        for group in group_batches(pending, write_every, lambda number: len(batches[number])):
            computed: list[SaveBatch] = []
            try:
                for number in group:
                    computed.append(compute(number, bar.update))
            finally:
                if rows := [row for save in computed for row in save()]:
                    append_rows(folder, rows)
    return [*_keep_complete_batches(folder, batches, fields).values()]


def _keep_complete_batches(
    folder: Path,
    batches: Sequence[Sequence[int]],
    fields: Fields,
    is_intact: Callable[[Row], bool] = lambda row: True,
) -> dict[int, Row]:
    """Rows by image id, in order, of the complete batches; all others are deleted."""
    rows = {row["image_id"]: row for row in read_rows(folder, fields) if is_intact(row)}
    complete = {i: rows[i] for ids in batches if all(i in rows for i in ids) for i in ids}
    replace_rows(folder, complete.values())
    return complete


def group_batches(
    batches: Iterable[T], min_images: int, size: Callable[[Any], int] = len
) -> Iterator[list[T]]:
    """Groups of batches, each but the last of at least ``min_images`` images."""
    group: list[T] = []
    for batch in batches:
        group.append(batch)
        if sum(map(size, group)) >= min_images:
            yield group
            group = []
    if group:
        yield group


def picture_path(kind: str, image_id: int) -> str:
    """The file of an image, relative to the run's folder."""
    return f"{kind}/{image_id:06d}.png"


def write_pictures(folder: Path, kind: str, images: Tensor, image_ids: Sequence[int]) -> Pixels:
    """Save images as ``kind``/000123.png; the pixels as they were read back, or an OSError."""
    (folder / kind).mkdir(exist_ok=True)
    files = [folder / picture_path(kind, i) for i in image_ids]
    pixels = to_uint8(images).cpu()
    for file, picture in zip(files, pixels, strict=True):
        write_png(file, picture)
    saved = torch.stack([read_png(file) for file in files])
    for file, one, other in zip(files, saved, pixels, strict=True):
        if not torch.equal(one, other):
            raise OSError(f"{file} does not hold what was written to it")
    return saved


def describe_pictures(folder: Path, image_id: int, with_original: bool) -> Row:
    """The entries of a row for its pictures and their digests."""
    files = {"": picture_path("images", image_id)}
    if with_original:
        files["original_"] = picture_path("originals", image_id)
    names = {f"{prefix}file": file for prefix, file in files.items()}
    return names | {f"{prefix}sha256": file_sha256(folder / f) for prefix, f in files.items()}


def read_picture(
    folder: Path, row: Row, prefix: str = ""
) -> UInt8[Tensor, "channels height width"]:
    """The picture of a row, or its ``original_``, which must be within the folder and unchanged."""
    file = resolve_inside(folder, row[f"{prefix}file"])
    if not file.is_file():
        raise ValueError(f"{file} is not there any more; {RERUN}")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != row.get(f"{prefix}sha256"):
        raise ValueError(f"{file} is not what the run wrote; {RERUN}")
    return decode_png(data)


def files_intact(folder: Path, row: Row) -> bool:
    """Whether the pictures of a row are there and unchanged."""
    prefixes = [prefix for prefix in ("", "original_") if f"{prefix}file" in row]
    try:
        files = [resolve_inside(folder, row[f"{prefix}file"]) for prefix in prefixes]
    except ValueError:
        return False
    digests = [row.get(f"{prefix}sha256") for prefix in prefixes]
    return all(f.is_file() and file_sha256(f) == d for f, d in zip(files, digests, strict=True))


def owned_pictures(folder: Path) -> Iterator[str]:
    """The pictures that the manifest of a run and its rows name, which may be missing."""
    ids: set[int] = set()
    with suppress(ValueError, AttributeError):
        ids.update(parse_spans(read_manifest(folder).get("image_ids", "")))
    file = folder / ROWS
    for line in file.read_bytes().splitlines() if file.is_file() else ():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            ids.add(int(json.loads(line)["image_id"]))
    yield from (picture_path(kind, i) for kind in IMAGE_KINDS for i in ids)


def _encode_rows(folder: Path, rows: Iterable[Row]) -> bytes:
    seal = verify_seal(folder)
    return b"".join(seal_row(row, seal) for row in rows)


def _iter_rows(folder: Path) -> Iterator[tuple[int, Row | None]]:
    """The number and the row of each line; None where the digest is wrong."""
    seal, file = verify_seal(folder), folder / ROWS
    check_regular_file(file)
    resolve_inside(folder, ROWS)
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    yield from ((number, _verify_row(line, seal)) for number, line in enumerate(lines, start=1))


def _verify_row(line: bytes, seal: str) -> Row | None:
    try:
        row = {name: value for name, value in json.loads(line).items() if name != DIGEST}
        return row if seal_row(row, seal) == line else None
    except (ValueError, AttributeError, RecursionError):
        return None
