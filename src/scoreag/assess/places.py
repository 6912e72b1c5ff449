"""Where in a TOML text a key stands, so that a mistake can be told with its line."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scoreag.load import UnknownName, hint, shown

WORDS = 1000  # of a list in a plan
_HEAD = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY = re.compile(r"""\s*([A-Za-z0-9_.\-]+|"[^"]*"|'[^']*')\s*=""")


def lines(text: str) -> dict[tuple[str, ...], int]:
    """The line, counted from 1, of every table and key of a TOML text that parses."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if head := _HEAD.match(line):
            table = _path(f"[{head[1]}]")
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_path(f"{key[1]} = 0")), number)
    return found


@dataclass(frozen=True)
class Where:
    """A file with the lines of its keys; it checks tables, and says where they are wrong."""

    file: str
    places: Mapping[tuple[str, ...], int]

    def at(self, *path: str) -> str:
        """``file, line 12``."""
        return f"{self.file}, line {line_of(self.places, *path)}"

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
        self, table: Mapping[str, Any], known: Mapping[str, Any], what: str, *path: str
    ) -> None:
        """Refuse keys that ``what`` does not know, and values of another type."""
        for key in table:
            if key not in known:
                told = f"{what} has no {shown(key)}; {hint(key, [*known])}"
                raise UnknownName(f"{self.at(*path, key)}: {told}")
        self.check_types(table, known, *path)

    def check_types(self, table: Mapping[str, Any], known: Mapping[str, Any], *path: str) -> None:
        """Refuse values of another type than the key's, and lists of anything but words."""
        for key, kinds in known.items():
            if key not in table:
                continue
            value, wanted = table[key], kinds if isinstance(kinds, tuple) else (kinds,)
            mixed = isinstance(value, list) and str in wanted and not _all_text(value)
            if isinstance(value, list) and len(value) > WORDS:
                raise ValueError(f"{self.at(*path, key)}: {key} has {len(value):,} entries")
            if type(value) not in wanted or mixed:
                told = " or ".join(_KINDS[kind] for kind in wanted)
                raise ValueError(f"{self.at(*path, key)}: {key} is {shown(value)}; expected {told}")

    def check_count(self, table: Mapping[str, Any], key: str, *path: str) -> None:
        """Refuse a number below 1."""
        if table.get(key, 1) < 1:
            raise ValueError(f"{self.at(*path, key)}: {key} is {table[key]}; expected 1 or more")


_KINDS = {
    str: "a word in quotes", int: "a whole number", list: "a list of words", dict: "a table",
    bool: "true or false",
}  # fmt: skip


def _all_text(value: list[Any]) -> bool:
    return all(isinstance(one, str) for one in value)


def line_of(places: Mapping[tuple[str, ...], int], *path: str) -> int:
    """The line of a key, or of the innermost table around it that has one; else the first."""
    for end in range(len(path), 0, -1):
        if path[:end] in places:
            return places[path[:end]]
    return 1


def _path(text: str) -> tuple[str, ...]:
    """The names in a header or in a key; none where the line was part of some longer value."""
    try:
        return tuple(_names(tomllib.loads(text)))
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()


def _names(table: dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield name
        if isinstance(value, dict):
            yield from _names(value)
