"""Where in a TOML text a key stands, so that a mistake is reported with its line."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_TABLE_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY_LINE = re.compile(r"""\s*([A-Za-z0-9_.\-]+|"[^"]*"|'[^']*')\s*=""")


@dataclass(frozen=True)
class TomlLocations:
    """A file with the line of each of its keys."""

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
    """The names in a header or in a key; none where the line was part of some longer value."""
    try:
        return tuple(_iter_names(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()


def _iter_names(table: dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield name
        if isinstance(value, dict):
            yield from _iter_names(value)
