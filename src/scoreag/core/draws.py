"""Which draw comes next for each row of a batch: counted apart, so that no row moves another's."""

from collections.abc import MutableMapping, Sequence

from scoreag.core.noise import Noise


def taken(counts: MutableMapping[int, int], rows: Sequence[int]) -> tuple[int, ...]:
    """The number of the next call of each row, which is thereby taken."""
    calls = tuple(counts.get(row, 0) for row in rows)
    counts.update({row: call + 1 for row, call in zip(rows, calls, strict=True)})
    return calls


def at_calls(seed: int, image_ids: Sequence[int], calls: Sequence[int]) -> Noise:
    """The randomness of each row at a call of its own: row i draws ``at("call", calls[i])``."""
    return Noise(seed, image_ids, within=tuple(("call", call) for call in calls))
