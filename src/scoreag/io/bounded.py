"""Reading files from elsewhere within limits: sizes are checked before memory is allocated.

A file may claim to unpack to a terabyte, nest without end, or be a pipe that nobody writes to.
"""

import ast
import io
import json
import math
import re
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoreag.registry import truncate_text

MAX_TEXT_BYTES = 1 << 20  # bytes of a card or a plan
MAX_TABLE_BYTES = 1 << 26  # bytes of JSON and of tables of words
MAX_DOTS = 20_000_000  # steps to parse keys such as a.b.c: the square of the dots
EXTRA_BYTES, SIZE_FACTOR = 1 << 25, 4  # bytes of packed arrays: and for each of the file's
_CHUNK_BYTES = 1 << 20  # that are unpacked at a time
_MAX_HEADER = 10_000  # characters before an array
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
FILE_TYPES = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFLNK: "a link",
}  # fmt: skip
_TABLE_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY_LINE = re.compile(r"""\s*([A-Za-z0-9_.\-]+|"[^"]*"|'[^']*')\s*=""")


def get_file_size(path: Path) -> int:
    """The bytes of a plain file; a pipe or a device, which may have no end, is refused."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = FILE_TYPES.get(stat.S_IFMT(status.st_mode), "a special file")
        raise ValueError(f"{path} is {kind}; expected a plain file")
    return status.st_size


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a plain file, of at most ``max_bytes``."""
    size = get_file_size(path)
    if max_bytes is not None and size > max_bytes:
        raise ValueError(f"{path} has {size:,} bytes; expected {max_bytes:,} at most")
    return path.read_bytes()


def read_text(path: Path, max_bytes: int = MAX_TABLE_BYTES) -> str:
    """A plain file as text in UTF-8."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error.reason} at {error.start}") from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError also where it nests too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The table of a TOML text; ValueError also where its keys or its nesting are too deep."""
    dots = [line.count(".") for line in text.split("\n")]
    if sum(n * n for n in dots) + len(dots) * max(dots) > MAX_DOTS:
        raise ValueError("it has lines with too many dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The unpacked data of a zip member, at most ``max_bytes``."""
    machine = zlib.decompressobj(-15)
    try:
        found = machine.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(found) > max_bytes:
        raise ValueError(f"it unpacks to more than {max_bytes:,} bytes")
    if not machine.eof:
        raise ValueError("its packed bytes break off")
    return found


def open_zip_archive(path: Path) -> zipfile.ZipFile:
    """A zip archive with the list of its members."""
    get_file_size(path)
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(
            f"{path} is no whole zip archive: {truncate_text(str(error), 200)}"
        ) from error


def read_zip_member(archive_file: zipfile.ZipFile, name: str, max_bytes: int) -> bytearray:
    """The unpacked bytes of a member, at most ``max_bytes``, whose checksum is right."""
    try:
        about = archive_file.getinfo(name)
        if about.flag_bits & 1 or about.compress_type not in _COMPRESSIONS:
            raise ValueError(f"it is packed by method {about.compress_type}, or encrypted")
        if about.file_size > max_bytes:
            raise ValueError(f"it unpacks to {about.file_size:,} bytes; expected {max_bytes:,}")
        found = bytearray()
        with archive_file.open(about) as stream:
            while piece := stream.read(_CHUNK_BYTES):
                found += piece
        if len(found) != about.file_size:
            raise ValueError("it breaks off")
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(
            f"its member {name[:80]!r} is damaged: {truncate_text(str(error), 200)}"
        ) from error
    return found


def read_npz(path: Path, wanted: Iterable[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The wanted arrays that a file has, and the names of all of its arrays; never objects."""
    room = EXTRA_BYTES + SIZE_FACTOR * get_file_size(path)
    with open_zip_archive(path) as opened:
        names = [name.removesuffix(".npy") for name in opened.namelist() if name.endswith(".npy")]
        found = {}
        for name in wanted:
            if name in names:
                member = f"{name}.npy"
                if (size := opened.getinfo(member).file_size) > room:
                    raise ValueError(
                        f"its member {member!r} unpacks to {size:,} bytes, too many for its size; "
                        "write it by np.savez, which packs nothing"
                    )
                found[name] = _parse_npy(read_zip_member(opened, member, room))
                room -= found[name].nbytes
    return found, names


def read_npy(path: Path, max_bytes: int = MAX_TABLE_BYTES) -> NDArray[Any]:
    """The array of a .npy file; never objects."""
    try:
        return _parse_npy(bytearray(read_bytes(path, max_bytes)))
    except ValueError as error:
        reason = truncate_text(str(error).removeprefix(f"{path} "), 200)
        raise ValueError(f"{path} is no whole .npy file: {reason}") from error


def _parse_npy(data: bytearray) -> NDArray[Any]:
    """The array of a .npy file, in the same memory."""
    file = io.BytesIO(data[: _MAX_HEADER + 12])
    try:
        version = np.lib.format.read_magic(file)
        length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"its header has {length:,} characters")
        header = ast.literal_eval(file.read(length).decode("latin1"))
        kind, shape = np.lib.format.descr_to_dtype(header["descr"]), tuple(header["shape"])
        start = file.tell()
        if kind.hasobject:
            raise ValueError("it holds objects, not numbers")
        if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
            raise ValueError(f"its shape is {truncate_text(str(shape), 80)}")
        if (whole := math.prod(shape) * kind.itemsize) != len(data) - start:
            raise ValueError(f"it has {len(data) - start:,} bytes, not {whole:,}")
        flat = np.frombuffer(data, kind, math.prod(shape), start)
        return flat.reshape(shape, order="F") if header["fortran_order"] else flat.reshape(shape)
    except MemoryError:
        raise ValueError("its header nests too deeply") from None
    except Exception as error:  # a damaged header can raise anything
        raise ValueError(truncate_text(str(error), 200) or type(error).__name__) from error


@dataclass(frozen=True)
class TomlLocations:
    """A TOML file with the line of each of its keys, for messages."""

    file: str
    lines: Mapping[tuple[str, ...], int]

    def at(self, *path: str) -> str:
        """``file, line 12``."""
        return f"{self.file}, line {find_line(self.lines, *path)}"


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, counted from 1, of every table and key of a TOML text that parses."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE_HEADER.match(line):
            table = _parse_path(f"[{header[1]}]")
            lines.setdefault(table, number)
        elif key := _KEY_LINE.match(line):
            lines.setdefault((*table, *_parse_path(f"{key[1]} = 0")), number)
    return lines


def find_line(lines: Mapping[tuple[str, ...], int], *path: str) -> int:
    """The line of a key, or of the innermost table around it that has one, or of a table in it."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return min((line for key, line in lines.items() if key[:1] == path[:1]), default=1)


def _parse_path(text: str) -> tuple[str, ...]:
    """The names in a header or in a key; none where the line is part of a longer value."""
    try:
        return tuple(_iter_names(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()


def _iter_names(table: dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield name
        if isinstance(value, dict):
            yield from _iter_names(value)
