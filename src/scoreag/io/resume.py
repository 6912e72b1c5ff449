"""Compute what a run's folder lacks: whole batches, in memory for one write at a time.

Of the rows on disk, memory holds the place of each line alone.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write
from scoreag.io.manifest import verify_seal
from scoreag.io.records import (
    Fields,
    Row,
    append_bytes,
    iter_lines,
    row_error,
    seal_row,
    verify_row,
)
from scoreag.io.run_dir import ROWS

Batches: TypeAlias = Sequence[Sequence[int]]  # the image ids that are computed together
# (numbers, advance) -> the batches, in turn
Compute: TypeAlias = Callable[[list[int], Callable[[int], Any]], Iterable[Any]]
Groups: TypeAlias = Iterable[list[int]]  # the numbers of batches that are written together
Executor: TypeAlias = Callable[[Groups], Iterator[tuple[list[int], list[Any]]]]
MakeBar: TypeAlias = Callable[[int], "tqdm[Any]"]  # of the number of finished images


@runtime_checkable
class Store(Protocol):
    """What becomes of computed batches: rows, and perhaps files, which are written before them."""

    def resume(self, complete: bytearray) -> None:
        """Prepare for further batches; unmark those of ``complete`` that must be computed again."""
        ...

    def is_intact(self, number: int, row: Row) -> bool:
        """Whether the files of a row of that batch are its own, and unchanged on disk."""
        ...

    def write(self, batches: Sequence[tuple[int, Any]]) -> list[Row]:
        """Write batches, and those that waited for them; their rows."""
        ...

    def commit(self) -> None:
        """Finish what is complete, now that the rows are on disk."""
        ...


class RowsAlone:
    """Batches that are rows, without files."""

    def resume(self, complete: bytearray) -> None:
        """Nothing is to be prepared."""

    def is_intact(self, number: int, row: Row) -> bool:
        return True

    def write(self, batches: Sequence[tuple[int, list[Row]]]) -> list[Row]:
        return [row for _, rows in batches for row in rows]

    def commit(self) -> None:
        """Nothing is to be finished."""


class LineIndex:
    """Where the line of each image begins in the rows, and its bytes; 0 bytes where it has none."""

    def __init__(self, batches: Batches) -> None:
        self.ids = [i for batch in batches for i in batch]
        self.starts = np.zeros(len(self.ids), dtype=np.int64)
        self.sizes = np.zeros(len(self.ids), dtype=np.int32)
        self.n_lines = 0  # of the file, of which some may be damaged
        self.find = make_finder(self.ids)

    @property
    def is_in_order(self) -> bool:
        """Whether the file has the line of every image, in order, and nothing else."""
        starts = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        ordered = bool((self.starts == starts).all() and (self.sizes > 0).all())
        return ordered and self.n_lines == len(self.ids)

    def append(self, folder: Path, rows: Sequence[Row], seal: str) -> None:
        """Append lines to the file and to the index."""
        lines = [seal_row(row, seal) for row in rows]
        start = append_bytes(folder / ROWS, b"".join(lines))
        for row, line in zip(rows, lines, strict=True):
            position = self.find(row["image_id"])
            assert position is not None
            self.starts[position], self.sizes[position] = start, len(line)
            start += len(line)
        self.n_lines += len(lines)

    def keep(self, folder: Path, kept: NDArray[np.bool_]) -> None:
        """Delete all lines but those of the images that are marked."""
        if self.n_lines != int(kept.sum()):
            self.sizes[~kept] = 0
            self.rewrite(folder)

    def rewrite(self, folder: Path) -> None:
        """Replace the file by the lines of the index, in the order of the images."""
        file = folder / ROWS

        def copy(temp: Path) -> None:
            with file.open("rb") as old, temp.open("wb") as new:
                for position in np.flatnonzero(self.sizes).tolist():
                    _copy_line(old, new, int(self.starts[position]), int(self.sizes[position]))

        atomic_write(file, copy)
        self.starts = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        self.n_lines = int((self.sizes > 0).sum())


def _copy_line(old: BinaryIO, new: BinaryIO, start: int, size: int) -> None:
    old.seek(start)
    new.write(old.read(size))


def make_finder(ids: Sequence[int]) -> Callable[[int], int | None]:
    """A function from an image id to its position, or None.

    Ids are mostly runs of consecutive numbers, so that it stores the begin of each run alone.
    """
    ascending = all(a < b for a, b in pairwise(ids))
    order: Sequence[int] = range(len(ids))
    order = order if ascending else sorted(order, key=ids.__getitem__)
    firsts: list[int] = []
    before: int | None = None
    for k, position in enumerate(order):
        if before is None or ids[position] != before + 1:
            firsts.append(k)
        before = ids[position]
    heads = [ids[order[k]] for k in firsts]
    ends = [*firsts[1:], len(ids)]

    def find(image_id: int) -> int | None:
        span = bisect_right(heads, image_id) - 1
        if span < 0:
            return None
        k = firsts[span] + image_id - heads[span]
        return order[k] if k < ends[span] else None

    return find


def resume_rows(
    folder: Path,
    batches: Batches,
    fields: Fields,
    compute: Compute,
    make_bar: MakeBar,
    write_every: int = 1,
    store: Store | None = None,
    execute: Executor | None = None,
) -> int:
    """Complete the rows of all images, in order; how many batches were computed.

    Complete batches in ``folder`` are not computed again; one with a missing row is.

    Args:
        compute: (batch numbers, function that advances the bar) -> the batches, in turn.
        make_bar: number of finished images -> progress bar.
        write_every: images between two writes; an interruption writes, too.
        store: writes the batches; by default they are rows alone.
        execute: computes groups of batches elsewhere, in any order.
    """
    chosen, seal = RowsAlone() if store is None else store, verify_seal(folder)
    index, complete = _scan(folder, batches, fields, seal, chosen)
    sizes = [len(batch) for batch in batches]
    pending = [number for number, done in enumerate(complete) if not done]
    groups = group_batches(pending, write_every, sizes.__getitem__)

    def save(group: Sequence[int], computed: Sequence[Any]) -> None:
        if rows := chosen.write([*zip(group, computed, strict=False)]):
            index.append(folder, rows, seal)
        chosen.commit()

    with make_bar(len(index.ids) - sum(sizes[number] for number in pending)) as bar:
        for group in groups if execute is None else ():
            _compute_group(group, compute, bar.update, save)
        for group, computed in execute(groups) if execute is not None else ():
            save(group, computed)
            bar.update(sum(sizes[number] for number in group))
    if not index.is_in_order:
        index.rewrite(folder)
    return len(pending)


def _compute_group(
    group: list[int],
    compute: Compute,
    advance: Callable[[int], Any],
    save: Callable[[Sequence[int], Sequence[Any]], None],
) -> None:
    """Compute and save some batches; after an error, those that were computed are saved."""
    computed: list[Any] = []
    try:
        for one in compute(group, advance):
            computed.append(one)  # at once: an interruption saves what there is
    finally:
        if computed:
            save(group, computed)


def group_batches(
    batches: Iterable[Any], min_images: int, size: Callable[[Any], int] = len
) -> Iterator[list[Any]]:
    """Groups of batches, each but the last of at least ``min_images`` images."""
    group: list[Any] = []
    images = 0
    for batch in batches:
        group.append(batch)
        images += size(batch)
        if images >= min_images:
            yield group
            group, images = [], 0
    if group:
        yield group


def _scan(
    folder: Path, batches: Batches, fields: Fields, seal: str, store: Store
) -> tuple[LineIndex, bytearray]:
    """The lines of complete batches, after all others were deleted, and a mark for each batch."""
    index, sizes = LineIndex(batches), [len(batch) for batch in batches]
    numbers = np.repeat(np.arange(len(batches), dtype=np.int32), sizes)
    place = 0
    for line in iter_lines(folder):
        row = verify_row(line, seal)
        if row is not None and not row_error(row, fields):
            position = index.find(row["image_id"])
            if position is not None and store.is_intact(int(numbers[position]), row):
                index.starts[position], index.sizes[position] = place, len(line)
        place += len(line)
        index.n_lines += 1
    complete = bytearray(b"\1" * len(batches))
    for number in set(numbers[index.sizes == 0].tolist()):
        complete[number] = 0
    store.resume(complete)
    index.keep(folder, np.repeat(np.frombuffer(bytes(complete), np.uint8), sizes) > 0)
    return index, complete
