"""Components by name.  A component is a file: ``load("attacks", "pgd")`` imports attacks/pgd.py.

There is no list to keep in step with the files, and ``package.module`` names a foreign component.
"""

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from reprlib import Repr
from types import ModuleType
from typing import Any

MANY, LONG = 1000, 100  # words that one is compared with, and their characters


class UnknownName(ValueError):
    """A word that names nothing that there is: whoever typed it mends it, nothing is broken."""


def names(kind: str) -> list[str]:
    """The components of a kind that this package brings, e.g. ``names("attacks")``."""
    return sorted(m.name for m in pkgutil.iter_modules(import_module(f"scoreag.{kind}").__path__))


def load(kind: str, name: str) -> ModuleType:
    """The module of a component; its own ones by file name, others by dotted name."""
    if "." in name and all(part.isidentifier() for part in name.split(".")):
        return import_module(name)
    if name not in names(kind):
        raise ValueError(f"no {shown(name)} in {kind}; {hint(name, names(kind))}")
    return import_module(f"scoreag.{kind}.{name}")


def check_options(factory: Any, options: dict[str, Any], what: str) -> None:
    """Refuse an option that ``factory`` does not take, before an hour of work, not after."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{what} takes no option {option!r}; {hint(option, known)}")


def hint(word: str, known: list[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    near = [name for name in known[:MANY] if len(name) <= LONG]
    if close := get_close_matches(word[:LONG], near, n=1):
        return f"did you mean {close[0]!r}?"
    return f"there are: {cut(', '.join(known[:MANY]), 300)}"


def cut(text: str, most: int) -> str:
    """One line of at most ``most`` characters, all of which can be printed; its end is kept."""
    ends = text if len(text) <= 4 * most else f"{text[: 2 * most]} ... {text[-2 * most :]}"
    line = " ".join(ends.split())
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(plain) <= most:
        return plain
    tail = most // 3
    return f"{plain[: most - tail - 5]} ... {plain[len(plain) - tail :]}"


_SHOWN = Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 3, 80, 80, 40
_SHOWN.maxdict = _SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxset = _SHOWN.maxfrozenset = 12


def shown(value: Any) -> str:
    """A value of a file as Python writes it, in at most a hundred characters, however large."""
    return cut(_SHOWN.repr(value), 100)
