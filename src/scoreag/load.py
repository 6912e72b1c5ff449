"""Components by name.  A component is a file: ``load("attacks", "pgd")`` imports attacks/pgd.py.

There is no list to keep in step with the files, and ``package.module`` names a foreign component.
"""

import pkgutil
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any


class UnknownName(ValueError):
    """A word that names nothing that there is: whoever typed it mends it, nothing is broken."""


def names(kind: str) -> list[str]:
    """The components of a kind that this package brings, e.g. ``names("attacks")``."""
    return sorted(m.name for m in pkgutil.iter_modules(import_module(f"scoreag.{kind}").__path__))


def load(kind: str, name: str) -> ModuleType:
    """The module of a component; its own ones by file name, others by dotted name."""
    if "." in name:
        if not all(part.isidentifier() for part in name.split(".")):
            raise UnknownName(f"{name!r:.80} is no module in {kind}; write package.module")
        return import_module(name)
    if name not in names(kind):
        raise ValueError(f"no {name!r} in {kind}; {hint(name, names(kind))}")
    return import_module(f"scoreag.{kind}.{name}")


def check_options(factory: Any, options: dict[str, Any], what: str) -> None:
    """Refuse an option that ``factory`` does not take, before an hour of work, not after."""
    known = list(signature(factory).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"{what} takes no option {option!r}; {hint(option, known)}")


def hint(word: str, known: list[str]) -> str:
    """The end of an error message: the known word that was probably meant, or all of them."""
    close = get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
