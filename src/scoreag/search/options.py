"""The options of an attack, checked when it is made: before an hour of work, not after."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

from scoreag.load import UnknownOption, hint

KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a number"),
    int: ((int,), "a whole number"),
    str: ((str,), "a word"),
    bool: ((bool,), "true or false"),
}
Pairs = tuple[tuple[str, Any], ...]
Made = TypeVar("Made")


def answering(attack: type[Made]) -> type[Made]:
    """An attack that answers a word of another library, such as ``eps``, by its own word for it."""
    init = attack.__init__

    @wraps(init)
    def made(self: Any, *given: Any, **options: Any) -> None:
        known = [f.name for f in fields(attack)]  # type: ignore[arg-type]
        for option in options:
            if option not in known:
                name = attack.__module__.rpartition(".")[2]
                raise UnknownOption(f"{name} takes no option {option!r}; {hint(option, known)}")
        init(self, *given, **options)

    attack.__init__ = made  # type: ignore[method-assign]
    return attack


def check(
    attack: Any,
    above_zero: Sequence[str] = (),
    ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
    **known: Collection[str],
) -> None:
    """Refuse options of another kind, outside their range, or that name nothing.

    Args:
        attack: a dataclass; fields without ``compare`` are no options, but what a runner fills in.
        above_zero: the names of the options that must be finite and more than 0.
        ranges: to an option the lowest and the highest value.
        known: to an option the words that it may be.

    Raises:
        ValueError: says what came, what was expected, and what was probably meant.
    """
    name = name_of(attack)
    for option in (f for f in fields(attack) if f.compare):
        _check_kind(name, option.name, option.type, getattr(attack, option.name))
    for word in above_zero:
        value = getattr(attack, word)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}: {word} is {value}; it must be above 0")
    for word, (low, high) in (ranges or {}).items():
        if not low <= (value := getattr(attack, word)) <= high:
            raise ValueError(f"{name}: {word} is {value}; expected {low:g} to {high:g}")
    for word, values in known.items():
        if (value := getattr(attack, word)) not in values:
            raise ValueError(f"{name} knows no {word} {value!r}; {hint(value, list(values))}")
    _check_radius(name, attack)


def _check_radius(name: str, attack: Any) -> None:
    """Refuse a radius in levels of 255: any image lies within it."""
    reach = getattr(attack, "epsilon", None)
    if reach is not None and reach > 1 and getattr(attack, "norm", None) == "linf":
        raise ValueError(
            f"{name}: epsilon is {reach:g}, and pixels are in [0, 1]; write {reach:g}/255"
        )


def name_of(attack: Any) -> str:
    """The name of its file, which is its own."""
    return type(attack).__module__.rpartition(".")[2]


def pairs(options: Mapping[str, Any] | Pairs) -> Pairs:
    """Options of another library, in a form that can be compared and hashed."""
    return tuple(sorted(dict(options).items()))


def _check_kind(name: str, option: str, kind: Any, value: Any) -> None:
    plain = next((k for k in KINDS if kind in (k, k | None)), None)
    if plain is None or (value is None and kind != plain):
        return
    accepted, wanted = KINDS[plain]
    if not isinstance(value, accepted) or (isinstance(value, bool) and plain is not bool):
        raise ValueError(f"{name}: {option} is {value!r}; expected {wanted}")
