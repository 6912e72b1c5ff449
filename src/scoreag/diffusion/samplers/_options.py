"""Checks that samplers make of their own options."""

import math


def check_whole(name: str, value: object, low: int, high: float | int = math.inf) -> None:
    """Refuse what is no whole number from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        bounds = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        raise ValueError(f"{name} is {value!r}; write a whole number {bounds}")
