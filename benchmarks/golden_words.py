"""The lines of golden.toml, and the library's words for those in them."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TABLE = tomllib.loads(Path(__file__).with_name("golden.toml").read_text("utf-8"))


def lines() -> Iterator[tuple[str, str]]:
    """Each line that is asked for, and its kind."""
    for kind, text in TABLE["asked"].items():
        for line in text.replace("\n", "|").split("|"):
            if line.strip():
                yield kind, line.strip()


def word(kind: str, name: str, of: str = "") -> str:
    """The library's word for one of the table: of a component in a kind of call, or of all."""
    known: dict[str, str] = TABLE["renamed"]
    places = (f"{kind}/{of}:{name}", f"{kind}:{name}", name)
    return next((known[place] for place in places if place in known), name)


def parts(kind: str, line: str) -> list[str]:
    """The words of a line that are no options."""
    return [word(kind, each) for each in line.split() if "=" not in each]


def options(kind: str, line: str) -> dict[str, Any]:
    """``a=1 b=c`` as options."""
    found, of = {}, line.partition(" ")[0]
    for pair in (each for each in line.split() if "=" in each):
        name, _, value = word(kind, pair, of).partition("=")
        try:
            found[word(kind, name, of)] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[word(kind, name, of)] = value
    return found


def taken(more: dict[str, Any], **usual: Any) -> list[Any]:
    """The values of some options, or the usual ones; they are taken out of ``more``."""
    return [more.pop(name, value) for name, value in usual.items()]
