"""What is told of a network's training: known names, with values of the kind that they have."""

from collections.abc import Mapping
from typing import Any

from scoreag.foreign.inert import Refused
from scoreag.load import hint


def check(told: Mapping[str, Any], examples: Mapping[str, Any], file: str) -> None:
    """Refuse arguments of a training that are not known, or are of another kind.

    Args:
        examples: of all arguments that are known; None stands for any value.

    Raises:
        Refused: an argument is not known, or its value is of another kind.
    """
    for name, value in told.items():
        if name not in examples:
            raise Refused(f"{file}: an argument {name!r}; {hint(name, list(examples))}")
        if not _alike(value, examples[name]):
            raise Refused(f"{file}: {name} is {value!r}; expected one as {examples[name]!r}")


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(type(one) is int for one in value) and bool(value)
    return example is None or type(value) is type(example)
