"""Figures as Markdown: shares with their denominators, settings in words, and tables."""

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]


def share(rate: Row) -> str:
    """95.1 % (232 of 244; 91.6 to 97.2)"""
    low, high = 100 * rate["low"], 100 * rate["high"]
    value, count, total = 100 * rate["value"], rate["count"], rate["total"]
    return f"{value:.1f} % ({count} of {total}; {low:.1f} to {high:.1f})"


def short(rate: Row) -> str:
    return f"{100 * rate['value']:.0f} % ({rate['count']}/{rate['total']})"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def what(settings: Any) -> str:
    if isinstance(settings, str):
        return settings
    named = {
        "strength": "s_y", "precision": "s_x",  # of version 0.1
        "attack_scale": "s_y", "similarity": "s_x",
    }  # fmt: skip
    shown = {named.get(k, k): v for k, v in settings.items() if k != "seed"}
    parts = [f"{k} {v:g}" if isinstance(v, float | int) else f"{k} {v}" for k, v in shown.items()]
    return ", ".join(parts) or "default"
