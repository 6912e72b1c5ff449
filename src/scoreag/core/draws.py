"""Which draw comes next for each row of a batch: counted apart, so that no row moves another's."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from scoreag.core.noise import Noise


def taken(counts: MutableMapping[Any, int], rows: Sequence[Any]) -> tuple[int, ...]:
    """The number of the next call of each row, which is thereby taken; a row that is named again
    takes the one after it.

    >>> taken({0: 4}, [0, 1, 0])
    (4, 0, 5)
    """
    calls = []
    for row in rows:
        calls.append(counts.get(row, 0))
        counts[row] = calls[-1] + 1
    return tuple(calls)


def at_calls(
    seed: int,
    image_ids: Sequence[int],
    calls: Sequence[int],
    paths: Sequence[tuple[str | int, ...]] = (),
) -> Noise:
    """The randomness of each row at a call of its own: row i draws ``at("call", calls[i])``.

    Args:
        paths: for each row what precedes that name, if anything does.
    """
    paths = paths or ((),) * len(calls)
    within = ((*path, "call", call) for path, call in zip(paths, calls, strict=True))
    return Noise(seed, image_ids, within=tuple(within))
