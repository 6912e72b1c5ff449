"""Progress of long work: a bar on a terminal, elsewhere a line on stderr every half a minute."""

import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook without ipywidgets, bars are plain text
    from tqdm.auto import tqdm as tqdm

LOG_SECONDS = 30.0  # between two lines, where there is no terminal
LOG_FORMAT = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left"


@dataclass(frozen=True)
class LogLines:
    """A stream on which each state of a bar is a line."""

    stream: Any  # a file of text

    def write(self, text: str) -> None:
        """Write the state, without the characters that move the cursor."""
        if line := text.replace("\r", "").replace("\x1b[A", "").strip():
            self.stream.write(f"scoreag: {line}\n")

    def flush(self) -> None:
        self.stream.flush()


def progress_bar(
    items: Iterable[Any] | None = None, *, desc: str, unit: str, show: bool = True,
    total: int | None = None, initial: int = 0, **options: Any,
) -> "tqdm[Any]":  # fmt: skip
    """A bar of tqdm that appears after two seconds; nothing at all where not ``show``.

    Where stderr is no terminal, there is a line at most every ``LOG_SECONDS``, and none for work
    that takes less.

    Args:
        items: what is counted while it is iterated; else ``update`` counts.
        options: of tqdm.
    """
    if not show:
        return tqdm(items, total=total, initial=initial, disable=True)
    if not sys.stderr.isatty():
        options |= {
            "file": LogLines(sys.stderr), "delay": LOG_SECONDS, "mininterval": LOG_SECONDS,
            "maxinterval": LOG_SECONDS, "bar_format": LOG_FORMAT, "leave": False, "miniters": 1,
        }  # fmt: skip
    return tqdm(
        items, total=total, initial=initial, desc=desc, unit=unit, **{"delay": 2, **options}
    )
