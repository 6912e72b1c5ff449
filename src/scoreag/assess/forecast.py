"""What an assessment would cost: each kind of cell measured on a few images, and scaled up.

Seconds, calls and memory are those of this machine, of one process on one core; what an attack
does to other images may take longer or shorter, so that a forecast is good to a factor of two.
Long attacks on a purifier are measured on a few steps, as if no image were left alone early.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreag.assess.cells import Cell
from scoreag.assess.compute import compute
from scoreag.assess.kit import Kit

FEW = 2  # images that are measured of each kind of cell
SHORT = 10  # of the steps, queries and answers behind a purifier; what is longer is scaled up
ALIKE = ("loss", "norm", "weights")  # words that cost the same


@dataclass(frozen=True)
class Forecast:
    """What a cell would cost, and on how many images that was measured (0: as another cell)."""

    cell: Cell
    measured: int
    seconds: float
    calls: float
    forwards: float
    backwards: float
    memory: int
    bytes: int


def forecast(
    cells: Sequence[Cell], kit: Kit, tell: Callable[[int], Any] = lambda done: None
) -> list[Forecast]:
    """The cost of every cell; cells that differ only in numbers that are no counts cost alike."""
    known: dict[tuple[Any, ...], Forecast] = {}
    found = []
    for cell in cells:
        kind = _kind(cell)
        first = known.get(kind)
        one = _measured(cell, kit) if first is None else replace(first, cell=cell, measured=0)
        known.setdefault(kind, one)
        found.append(_scaled(one, cell))
        tell(1)
    return found


def _kind(cell: Cell) -> tuple[Any, ...]:
    """What the cost of an image depends on: strength, radius and seed do not count."""
    told = (cell.options, cell.purifier_options, cell.attacked)
    counts = [
        {n: v for n, v in of.items() if not isinstance(v, float) and n not in ALIKE} for of in told
    ]
    return (
        cell.group, cell.victim, cell.component, cell.purifier, cell.answers, cell.strangers,
        repr(counts), bool(cell.options.get("strength", 1)),
    )  # fmt: skip


def _measured(cell: Cell, kit: Kit) -> Forecast:
    """A cell with a few images, all at once: what it cost in all, an image."""
    cut, steps, answers = shortened(cell)
    few = replace(cut, images=min(FEW, cell.images), micro_batch=min(FEW, cell.images), content={})
    done = compute(few, few.pieces, kit)  # loads, and warms up
    again = compute(few, few.pieces, kit) if done.seconds + done.other < 1 else done
    rows = again.rows
    names = ("calls", "forwards", "backwards")
    mean = {n: steps * math.fsum(row[n] for row in rows) / len(rows) for n in names}
    return Forecast(
        cell=cell,
        measured=len(rows),
        seconds=(steps * again.seconds + answers * again.other) / len(rows),
        memory=again.memory,
        bytes=sum(map(len, again.files.values())) // len(rows) + 1500,
        **mean,
    )


def shortened(cell: Cell) -> tuple[Cell, float, float]:
    """A cell that is quick to measure, and by what its attack and its judging are to be scaled."""
    options, times = dict(cell.options), 1.0
    for name in ("steps", "queries"):
        count = options.get(name)
        if cell.purifier and cell.task == "attack" and type(count) is int and count > 2 * SHORT:
            options[name], times = SHORT, count / SHORT
    if times > 1 and "stop" in options:
        options["stop"] = 0
    answers = SHORT if cell.answers > 2 * SHORT else cell.answers
    return replace(cell, options=options, answers=answers), times, cell.answers / answers


def _scaled(one: Forecast, cell: Cell) -> Forecast:
    """From one image to the cell; short micro-batches are padded, and cost as whole ones."""
    whole = len(cell.pieces) * cell.micro_batch
    return replace(
        one,
        seconds=one.seconds * whole,
        calls=one.calls * cell.images,
        forwards=one.forwards * cell.images,
        backwards=one.backwards * cell.images,
        bytes=one.bytes * cell.images,
    )
