"""Where in a TOML text a key stands, so that a mistake can be told with its line."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scoreag.registry import UnknownNameError, did_you_mean, short_repr

MAX_LIST_ENTRIES = 1000  # of a list in a plan
_TABLE_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY_LINE = re.compile(r"""\s*([A-Za-z0-9_.\-]+|"[^"]*"|'[^']*')\s*=""")


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, counted from 1, of every table and key of a TOML text that parses."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if head := _TABLE_HEADER.match(line):
            table = _parse_path(f"[{head[1]}]")
            found.setdefault(table, number)
        elif key := _KEY_LINE.match(line):
            found.setdefault((*table, *_parse_path(f"{key[1]} = 0")), number)
    return found


@dataclass(frozen=True)
class TomlLocations:
    """A file with the lines of its keys; it checks tables, and says where they are wrong."""

    file: str
    locations: Mapping[tuple[str, ...], int]

    def at(self, *path: str) -> str:
        """``file, line 12``."""
        return f"{self.file}, line {find_line(self.locations, *path)}"

    def tables(self, table: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The tables within ``table[name]``, each with its name.

        Raises:
            ValueError: something in it is no table.
        """
        for key, value in table.get(name, {}).items():
            if not isinstance(value, dict):
                raise ValueError(
                    f"{self.at(name, key)}: {key} stands in [{name}] itself; write it below "
                    f"a header such as [{name}.NAME]"
                )
        return list(table.get(name, {}).items())

    def check_keys(
        self, table: Mapping[str, Any], known: Mapping[str, Any], owner: str, *path: str
    ) -> None:
        """Refuse keys that ``what`` does not know, and values of another type."""
        for key in table:
            if key not in known:
                told = f"{owner} has no {short_repr(key)}; {did_you_mean(key, [*known])}"
                raise UnknownNameError(f"{self.at(*path, key)}: {told}")
        self.check_types(table, known, *path)

    def check_types(self, table: Mapping[str, Any], known: Mapping[str, Any], *path: str) -> None:
        """Refuse values of another type than the key's, and lists of anything but words."""
        for key, kinds in known.items():
            if key not in table:
                continue
            value, wanted = table[key], kinds if isinstance(kinds, tuple) else (kinds,)
            mixed = isinstance(value, list) and str in wanted and not _all_text(value)
            if isinstance(value, list) and len(value) > MAX_LIST_ENTRIES:
                raise ValueError(f"{self.at(*path, key)}: {key} has {len(value):,} entries")
            if type(value) not in wanted or mixed:
                told = " or ".join(_TYPE_NAMES[kind] for kind in wanted)
                raise ValueError(
                    f"{self.at(*path, key)}: {key} is {short_repr(value)}; expected {told}"
                )

    def check_count(self, table: Mapping[str, Any], key: str, *path: str) -> None:
        """Refuse a number below 1."""
        if table.get(key, 1) < 1:
            raise ValueError(f"{self.at(*path, key)}: {key} is {table[key]}; expected 1 or more")


_TYPE_NAMES = {
    str: "a word in quotes", int: "a whole number", list: "a list of words", dict: "a table",
    bool: "true or false",
}  # fmt: skip


def _all_text(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def find_line(locations: Mapping[tuple[str, ...], int], *path: str) -> int:
    """The line of a key, or of the innermost table around it that has one; else the first."""
    for end in range(len(path), 0, -1):
        if path[:end] in locations:
            return locations[path[:end]]
    return 1


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
