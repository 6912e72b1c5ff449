"""Files of others, read within bounds: what they claim is checked before room is made for it.

A file may say that it unpacks to a terabyte, nest without end, or be a pipe that nobody writes to.
"""

import json
import stat
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Any

from scoreag.load import cut

TEXT = 1 << 20  # bytes of a card or a plan
TABLE = 1 << 26  # bytes of JSON and of tables of words
DOTS = 20_000_000  # steps in taking keys such as a.b.c apart, whose number grows with its square
_PIECE = 1 << 20  # bytes that are unpacked at a time
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_KINDS = {
    stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device", stat.S_IFBLK: "device",
}  # fmt: skip


def size_of(path: Path) -> int:
    """How many bytes a file has; what is no plain file is refused, since it may have no end."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        kind = _KINDS.get(stat.S_IFMT(facts.st_mode), "special file")
        raise ValueError(f"{path} is a {kind}; expected a plain file")
    return facts.st_size


def read_bytes(path: Path, at_most: int | None = None) -> bytes:
    """The bytes of a plain file.

    Raises:
        ValueError: it is none, or longer than ``at_most``.
    """
    size = size_of(path)
    if at_most is not None and size > at_most:
        raise ValueError(f"{path} has {size:,} bytes; expected {at_most:,} at most")
    return path.read_bytes()


def read_text(path: Path, at_most: int = TABLE) -> str:
    """A plain file as text in UTF-8."""
    try:
        return read_bytes(path, at_most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error.reason} at {error.start}") from error


def parsed_json(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is none, or nests too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def parsed_toml(text: str) -> dict[str, Any]:
    """What TOML says.

    Raises:
        ValueError: it is none, nests too deeply, or has keys of thousands of parts.
    """
    dots = [line.count(".") for line in text.split("\n")]
    if sum(n * n for n in dots) + len(dots) * max(dots) > DOTS:
        raise ValueError("it has lines with too many dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def inflated(data: bytes, at_most: int) -> bytes:
    """What bytes that zip archives pack unpack to.

    Raises:
        ValueError: they are damaged, or unpack to more than ``at_most``.
    """
    machine = zlib.decompressobj(-15)
    try:
        found = machine.decompress(data, at_most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(found) > at_most:
        raise ValueError(f"it unpacks to more than {at_most:,} bytes")
    if not machine.eof:
        raise ValueError("its packed bytes break off")
    return found


def archive(path: Path) -> zipfile.ZipFile:
    """A zip archive with the list of its members.

    Raises:
        ValueError: it is none, or damaged.
    """
    size_of(path)
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(f"{path} is no whole zip archive: {cut(str(error), 200)}") from error


def member(opened: zipfile.ZipFile, name: str, at_most: int) -> bytearray:
    """The bytes of a member, unpacked piece by piece, whose checksum holds.

    Raises:
        ValueError: there is none, it is damaged, encrypted, or unpacks to more than ``at_most``.
    """
    try:
        about = opened.getinfo(name)
        if about.flag_bits & 1 or about.compress_type not in _PACKED:
            raise ValueError(f"it is packed by method {about.compress_type}, or encrypted")
        if about.file_size > at_most:
            raise ValueError(f"it unpacks to {about.file_size:,} bytes; expected {at_most:,}")
        found = bytearray()
        with opened.open(about) as stream:
            while piece := stream.read(_PIECE):
                found += piece
        if len(found) != about.file_size:
            raise ValueError("it breaks off")
    except Exception as error:  # a damaged archive can raise anything
        raise ValueError(f"its member {name[:80]!r} is damaged: {cut(str(error), 200)}") from error
    return found
