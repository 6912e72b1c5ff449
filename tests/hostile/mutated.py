"""Whole files with something changed: bits, lengths, order, numbers."""

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from hostile.readers import members, packed
from hostile.trials import Case

Change = Callable[[bytes, random.Random], bytes]
NUMBERS = (
    b"-1", b"0", b"1e999", b"nan", b"NaN", b"inf", b"-Infinity", b"9" * 30, b"9" * 5000, b"1.5",
    b"true", b"null", b'"x"', b"[]", b"{}", b"4294967296", b"1000000", b"[[1]]", b"''",
)  # fmt: skip
FIELDS = (
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 4,
    b"\0\0\0\x80",
    b"\xff" * 7 + b"\x7f",
)


def flipped(data: bytes, source: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(source.choice((1, 1, 2, 8, 64))):
        found[_place(data, source)] ^= 1 << source.randrange(8)
    return bytes(found)


def cut(data: bytes, source: random.Random) -> bytes:
    return data[: _place(data, source)]


def grown(data: bytes, source: random.Random) -> bytes:
    at = _place(data, source)
    return data[:at] + source.randbytes(source.choice((1, 2, 4, 300))) + data[at:]


def swapped(data: bytes, source: random.Random) -> bytes:
    a, b, c = sorted(_place(data, source) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def shrunk(data: bytes, source: random.Random) -> bytes:
    at = _place(data, source)
    return data[:at] + data[at + source.choice((1, 2, 4, 8, 100)) :]


def twice(data: bytes, source: random.Random) -> bytes:
    a, b = sorted(_place(data, source) for _ in range(2))
    return data[:b] + data[a:b] * source.choice((1, 2, 5)) + data[b:]


def numbered(data: bytes, source: random.Random) -> bytes:
    """Another number in a text, or in a field of four or eight bytes."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data)) if data[:2000].isascii() else []
    if found:
        one = source.choice(found)
        return data[: one.start()] + source.choice(NUMBERS) + data[one.end() :]
    at, field = _place(data, source), source.choice(FIELDS)
    return data[:at] + field + data[at + len(field) :]


CHANGES: tuple[Change, ...] = (
    flipped,
    flipped,
    cut,
    grown,
    swapped,
    shrunk,
    twice,
    numbered,
    numbered,
)


def _place(data: bytes, source: random.Random) -> int:
    """Anywhere, or among the first bytes or the last, where a file says what it is of."""
    ends = min(len(data), 600)
    at = source.choice(
        (source.randrange(len(data)), source.randrange(ends), -1 - source.randrange(ends))
    )
    return at % len(data)


def cases(kind: str, whole: Any, count: int, seed: int) -> Iterator[Case]:
    """``count`` files of a kind; half of the archives are whole, and a member is changed."""
    read, files, names = whole
    source = random.Random(f"{kind} {seed}")
    for number in range(count):
        name, change = names[number % len(names)], CHANGES[number % len(CHANGES)]
        content = files[name]
        if content[:2] == b"PK" and number % 2:
            inner = members(content)
            member = source.choice([n for n in inner if inner[n] and not re.search(r"/data/\d", n)])
            inner[member] = change(inner[member], source)
            made, how = packed(inner), f"{change.__name__} {member}"
        else:
            made, how = change(content, source), change.__name__
        yield Case(f"{kind} {number} {how}", "mutated", read, {**files, name: made})
