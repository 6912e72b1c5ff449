"""A zip archive read where it lies: the list of its members at once, one's bytes when asked.

The standard library makes an object of each member; for the 120,000 of Tiny ImageNet that takes
five times as long and 80 MB.  The format: PKWARE, APPNOTE 6.3.10, sections 4.3.7 to 4.3.16.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scoreag.io.bounded import get_file_size, inflate

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
