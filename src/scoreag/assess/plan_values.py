"""Values as a plan writes them: one word or several, fractions, and the values of a sweep."""

from collections.abc import Sequence
from typing import Any


def words(value: str | Sequence[str]) -> tuple[str, ...]:
    """One word or a list of them, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def fraction(value: Any) -> Any:
    """``"8/255"`` as a number; TOML has no fractions."""
    above, slash, below = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(above) / float(below) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


def values(value: Any) -> list[tuple[str, Any]]:
    """The values of a sweep, each as it is written and as it is meant; of one value, that one."""
    several = value if isinstance(value, list) else [value]
    return [(str(one), fraction(one)) for one in several]
