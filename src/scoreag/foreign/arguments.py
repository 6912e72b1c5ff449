"""What is told of a network's training: known names, with values of the kind that they have."""

from collections.abc import Mapping
from typing import Any

from scoreag.foreign.inert import Refused
from scoreag.load import hint, shown

LONG, LARGE = 100, 1_000_000  # of lists and words; of numbers


def check(told: Mapping[str, Any], examples: Mapping[str, Any], file: str) -> None:
    """Refuse arguments of a training that are not known, or are of another kind.

    Args:
        examples: of all arguments that are known; None stands for any value.

    Raises:
        Refused: an argument is not known, or its value is of another kind.
    """
    check_sizes(told, file)
    for name, value in told.items():
        if name not in examples:
            raise Refused(f"{file}: an argument {shown(name)}; {hint(name, list(examples))}")
        if not _alike(value, examples[name]):
            raise Refused(f"{file}: {name} is {shown(value)}; expected one as {examples[name]!r}")


def check_sizes(told: Mapping[str, Any], file: str) -> None:
    """Refuse arguments that no published network has.

    Raises:
        Refused: a number or a list of a network is larger than any that was published.
    """
    for name, value in told.items():
        listed = value if isinstance(value, list) else [value]
        if len(listed) > LONG or not all(_small(one) for one in listed):
            raise Refused(f"{file}: {shown(name)} is {shown(value)}, which no network has")


def _small(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONG
    return value is None or (isinstance(value, int | float) and abs(value) <= LARGE)


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(type(one) is int for one in value) and bool(value)
    return example is None or type(value) is type(example)
