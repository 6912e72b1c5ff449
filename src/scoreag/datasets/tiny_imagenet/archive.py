"""A zip archive read where it lies: the list of its members at once, one's bytes when asked.

The standard library makes an object of each member; for the 120,000 of Tiny ImageNet that takes
five times as long and 80 MB.  The format: PKWARE, APPNOTE 6.3.10, sections 4.3.7 to 4.3.16.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from scoreag.bounded import inflated, size_of

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_LENGTHS = struct.Struct("<4s24xHHH")  # of an entry: signature; of its name, extra field, comment
_FACTS = struct.Struct("<8xHH4xII4x14xI")  # flags, method, CRC-32, packed size, place of the file
_ENTRY, _FILE = 46, 30  # bytes before the name, in the list and at the file itself
_STORED, _DEFLATED = 0, 8
MEMBER = 1 << 24  # bytes that a member may have; the longest published one, words.txt, has 2.6 MB


@dataclass(frozen=True, eq=False)
class Archive:
    """The list of an archive's members as it is, and where in it each name's entry begins."""

    path: Path
    directory: bytes
    entries: dict[str, int]


def opened(path: Path) -> Archive:
    """The archive with the list of its members; their content is not touched."""
    size_of(path)
    try:
        with path.open("rb") as file:
            directory = _directory(file)
        return Archive(path, directory, _entries(directory))
    except (ValueError, struct.error) as error:
        raise ValueError(
            f"{path} is no whole zip archive: {error}; remove it, and it is fetched again"
        ) from error


def content(archive: Archive, name: str) -> bytes:
    """The bytes of a member, whose checksum holds; KeyError where there is none of that name."""
    facts = _FACTS.unpack_from(archive.directory, archive.entries[name])
    flags, method, checksum, packed, place = facts
    try:
        if flags & 1 or method not in (_STORED, _DEFLATED):
            raise ValueError(f"it is packed by method {method}, or encrypted")
        with archive.path.open("rb") as file:
            file.seek(place)
            head = file.read(_FILE)
            file.seek(sum(struct.unpack_from("<HH", head, 26)), 1)
            data = file.read(min(packed, MEMBER + 1))
        if len(data) > MEMBER:
            raise ValueError(f"it has {packed:,} bytes; expected {MEMBER:,} at most")
        data = inflated(data, MEMBER) if method == _DEFLATED else data
        if zlib.crc32(data) != checksum:
            raise ValueError("its checksum does not hold")
    except (ValueError, struct.error) as error:
        raise ValueError(f"{archive.path} is damaged at {name[:120]}: {error}") from error
    return data


def _directory(file: BinaryIO) -> bytes:
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


def _entries(directory: bytes) -> dict[str, int]:
    entries: dict[str, int] = {}
    at = 0
    while at < len(directory):
        signature, name, extra, comment = _LENGTHS.unpack_from(directory, at)
        if signature != b"PK\1\2":
            raise ValueError(f"the list of its members is damaged after {len(entries):,} of them")
        start = at + _ENTRY
        entries[directory[start : start + name].decode("utf-8", "replace")] = at
        at = start + name + extra + comment
    return entries
