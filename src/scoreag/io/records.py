"""Rows on disk: a line of JSON for each image, written after the pictures that it names.

A line ends with a digest of itself and of the run's seal, by which a row that was changed, cut off
or copied from another run is recognized.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from jaxtyping import UInt8
from torch import Tensor

from scoreag.io.filesystem import atomic_write, check_regular_file, file_sha256, resolve_inside
from scoreag.io.images import decode_png
from scoreag.io.manifest import read_manifest, verify_seal
from scoreag.io.run_dir import ROWS
from scoreag.io.shards import read_shard

Row: TypeAlias = dict[str, Any]
Fields: TypeAlias = Mapping[str, tuple[type, ...]]  # the allowed types of each entry of a row
Pixels: TypeAlias = UInt8[Tensor, "batch channels height width"]

DIGEST = "digest"
NONE_TYPE = type(None)
IMAGE_KINDS = ("images", "originals")  # the pictures of a run, each in a folder of its own
FOLDER_IMAGES = 1000  # ids in a folder of a large run
PICTURE_FIELDS: Fields = {"image_id": (int,), **dict.fromkeys(("file", "sha256"), (str,))}
OPTIONAL_FIELDS: Fields = {
    **dict.fromkeys(("original_file", "original_sha256", "source"), (str,)),
    **dict.fromkeys(("offset", "original_offset"), (int,)),
    **dict.fromkeys(("distances", "judge", "probabilities"), (dict,)),
}
RERUN = "give the command of the run again, and it is made again"


def seal_row(row: Mapping[str, Any], seal: str) -> bytes:
    """A row as a line, which ends with the digest of the run's ``seal`` and of all before it."""
    text = json.dumps(row, allow_nan=False)
    digest = hashlib.sha256(f"{seal}\n{text}".encode()).hexdigest()[:16]
    return (json.dumps({**row, DIGEST: digest}) + "\n").encode()


def append_rows(folder: Path, rows: Iterable[Row], seal: str | None = None) -> None:
    """Append lines and sync them to disk; after a failure none of them is there.

    Args:
        seal: of the run, where it was verified before; else its manifest is read.
    """
    append_bytes(folder / ROWS, _encode_rows(folder, rows, seal))


def append_bytes(path: Path, data: bytes) -> int:
    """Append to a file and sync it to disk; the offset at which ``data`` begins.

    Raises:
        OSError: the disk is full; the file is then as it was before.
    """
    remaining = memoryview(data)
    with path.open("ab", buffering=0) as file:  # else a write is retried on close
        before = file.tell()
        try:
            while remaining:
                remaining = remaining[file.write(remaining) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(path, before)
            raise OSError(error.errno, error.strerror, str(path)) from error
    return before


def replace_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Replace the file, unless it has exactly these rows."""
    file, text = folder / ROWS, _encode_rows(folder, rows, None)
    if not file.exists() or file.read_bytes() != text:
        atomic_write(file, lambda temp: temp.write_bytes(text))


def read_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> list[Row]:
    """The intact rows of the run with this manifest."""
    return [*iter_rows(folder, fields)]


def iter_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> Iterator[Row]:
    """As ``read_rows``, one after the other."""
    seal = verify_seal(folder)
    for line in iter_lines(folder):
        row = verify_row(line, seal)
        if row is not None and not row_error(row, fields):
            yield row


def read_complete_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> list[Row]:
    """All rows of a finished run; a missing or a changed row is an error."""
    return [*iter_complete_rows(folder, fields)]


def iter_complete_rows(folder: Path, fields: Fields = PICTURE_FIELDS) -> Iterator[Row]:
    """As ``read_complete_rows``, one after the other, in memory for the image ids alone."""
    file, seal = folder / ROWS, verify_seal(folder)
    ids: set[int] = set()
    for number, line in enumerate(iter_lines(folder), start=1):
        row = verify_row(line, seal)
        fault = "it is not as the run wrote it" if row is None else row_error(row, fields)
        if row is None or fault or row["image_id"] in ids:
            fault = fault or f"image {row['image_id'] if row else ''} is there twice"
            raise ValueError(f"{file}, line {number}: {fault}; {RERUN}")
        ids.add(row["image_id"])
        yield row
    expected = read_manifest(folder).get("images", len(ids))
    if len(ids) != expected:
        raise ValueError(f"{file} has {len(ids)} rows of {expected}; {RERUN}")


def row_error(row: Row, fields: Fields) -> str:
    """A description of the first entry that is missing or of another type; "" if there is none."""
    for table in (fields, OPTIONAL_FIELDS):
        for name, kinds in table.items():
            if type(row.get(name, _MISSING)) in kinds:  # True is an int, too, but its type is not
                continue
            if name in row:
                expected = " or ".join(kind.__name__ for kind in kinds)
                return f"{name} is {row[name]!r:.60}; expected {expected}"
            if table is fields:
                expected = " or ".join(kind.__name__ for kind in kinds)
                return f"{name} is missing; expected {expected}"
    return ""


def picture_path(kind: str, image_id: int, in_folders: bool = False) -> str:
    """The file of an image, relative to the run's folder.

    Args:
        in_folders: of ``FOLDER_IMAGES`` ids each, as in large runs.
    """
    place = f"{kind}/{image_id // FOLDER_IMAGES:03d}xxx" if in_folders else kind
    return f"{place}/{image_id:06d}.png"


def read_picture(
    folder: Path, row: Row, prefix: str = ""
) -> UInt8[Tensor, "channels height width"]:
    """The picture of a row, or its ``original_``, which must be within the folder and unchanged."""
    file = resolve_inside(folder, row[f"{prefix}file"])
    if not file.is_file():
        raise ValueError(f"{file} is not there any more; {RERUN}")
    if f"{prefix}offset" in row:
        data = read_shard(file, row[f"{prefix}offset"], prefix)
    else:
        data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != row.get(f"{prefix}sha256"):
        raise ValueError(f"{file} is not what the run wrote; {RERUN}")
    return decode_png(data)


def files_intact(folder: Path, row: Row) -> bool:
    """Whether the pictures of a row, each in a file of its own, are there and unchanged."""
    prefixes = [prefix for prefix in ("", "original_") if f"{prefix}file" in row]
    try:
        files = [resolve_inside(folder, row[f"{prefix}file"]) for prefix in prefixes]
    except ValueError:
        return False
    digests = [row.get(f"{prefix}sha256") for prefix in prefixes]
    return all(f.is_file() and file_sha256(f) == d for f, d in zip(files, digests, strict=True))


def iter_lines(folder: Path) -> Iterator[bytes]:
    """The lines of the rows, each with its end; none where there is no file."""
    file = folder / ROWS
    check_regular_file(file)
    resolve_inside(folder, ROWS)
    if file.exists():
        with file.open("rb") as lines:
            yield from lines


def verify_row(line: bytes, seal: str) -> Row | None:
    """The row of a line, without its digest; None where the digest is wrong."""
    text = line[:-_TAIL] + b"}"
    digest = hashlib.sha256(f"{seal}\n".encode() + text).hexdigest()[:16]
    if line[-_TAIL:] != _DIGEST_ENTRY % digest.encode():
        return None
    try:
        row = _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _encode_rows(folder: Path, rows: Iterable[Row], seal: str | None) -> bytes:
    seal = seal or verify_seal(folder)
    return b"".join(seal_row(row, seal) for row in rows)


def _parse_finite(text: str) -> float:
    """A number; ValueError where it is none that a row can hold."""
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value


_DECODER = json.JSONDecoder(parse_float=_parse_finite, parse_constant=_parse_finite)
_DIGEST_ENTRY = b', "digest": "%s"}\n'
_TAIL = len(_DIGEST_ENTRY % (b"0" * 16))
_MISSING = object()
