"""Files of others, read within bounds: what they claim is checked before room is made for it.

A file may say that it unpacks to a terabyte, nest without end, or be a pipe that nobody writes to.
"""

import ast
import io
import json
import math
import stat
import tomllib
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoreag.registry import truncate_text

MAX_TEXT_BYTES = 1 << 20  # bytes of a card or a plan
MAX_TABLE_BYTES = 1 << 26  # bytes of JSON and of tables of words
MAX_DOTS = 20_000_000  # steps in taking keys such as a.b.c apart: the square of the dots
_CHUNK_BYTES = 1 << 20  # bytes that are unpacked at a time
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FILE_TYPES = {
    stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


def get_file_size(path: Path) -> int:
    """How many bytes a file has; what is no plain file is refused, since it may have no end."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        kind = _FILE_TYPES.get(stat.S_IFMT(facts.st_mode), "special file")
        raise ValueError(f"{path} is a {kind}; expected a plain file")
    return facts.st_size


def read_bytes(path: Path, max_bytes: int | None = None) -> bytes:
    """The bytes of a plain file.

    Raises:
        ValueError: it is none, or longer than ``max_bytes``.
    """
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
    """What JSON says.

    Raises:
        ValueError: it is none, or nests too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML says.

    Raises:
        ValueError: it is none, nests too deeply, or has keys of thousands of parts.
    """
    dots = [line.count(".") for line in text.split("\n")]
    if sum(n * n for n in dots) + len(dots) * max(dots) > MAX_DOTS:
        raise ValueError("it has lines with too many dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def inflate(data: bytes, max_bytes: int) -> bytes:
    """What bytes that zip archives pack unpack to.

    Raises:
        ValueError: they are damaged, or unpack to more than ``max_bytes``.
    """
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
    """A zip archive with the list of its members.

    Raises:
        ValueError: it is none, or damaged.
    """
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
    """The bytes of a member, unpacked piece by piece, whose checksum holds.

    Raises:
        ValueError: there is none, it is damaged, encrypted, or unpacks to more than ``max_bytes``.
    """
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


EXTRA_BYTES, SIZE_FACTOR = (
    1 << 25,
    4,
)  # bytes that packed arrays may have, and more for each byte of the file
_MAX_HEADER = 10_000  # characters of what stands before an array


def read_npz(path: Path, wanted: Iterable[str]) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Those of these arrays that a file has, and the names of all of its arrays.

    Raises:
        ValueError: it is damaged, holds objects, or unpacks to far more than its own size.
    """
    room = EXTRA_BYTES + SIZE_FACTOR * get_file_size(path)
    with open_zip_archive(path) as opened:
        names = [name.removesuffix(".npy") for name in opened.namelist() if name.endswith(".npy")]
        found = {}
        for name in wanted:
            if name in names:
                found[name] = _read_array(opened, f"{name}.npy", room)
                room -= found[name].nbytes
    return found, names


def _read_array(archive_file: zipfile.ZipFile, name: str, max_bytes: int) -> NDArray[Any]:
    size = archive_file.getinfo(name).file_size
    if size > max_bytes:
        raise ValueError(
            f"its member {name!r} unpacks to {size:,} bytes, too many for its size; write it by "
            "np.savez, which packs nothing"
        )
    return parse_npy(read_zip_member(archive_file, name, max_bytes))


def parse_npy(data: bytearray) -> NDArray[Any]:
    """The array of a .npy file, which may be written to.

    Raises:
        ValueError: it is none, is cut short, or holds objects.
    """
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
