"""What an assessment would cost: each kind of cell measured on a few images, and scaled up.

Seconds, calls and memory are those of this machine, of one process on one core; what an attack
does to other images may take longer or shorter, so that a forecast is good to a factor of two.
Long attacks on a purifier are measured on a few steps and draws, as if no image were left alone
early: where an attack has ``stop`` that is an upper bound, which may be ten times too high.
Memory is that of these few images and draws: more of them at once take more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreag.assess.cells import Cell
from scoreag.assess.compute import compute
from scoreag.assess.kit import Kit

FEW = 2  # images that are measured of each kind of cell
SHORT = {"steps": 5, "queries": 10, "draws": 4}  # of an attack on a purifier that has many more
ANSWERS = 10  # of its judging
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


@dataclass(frozen=True)
class Sample:
    """What an image of a shortened cell costs: seconds of its attack and of its judging."""

    attack: float
    judging: float
    calls: float
    forwards: float
    backwards: float
    memory: int
    bytes: int


def forecast(
    cells: Sequence[Cell], kit: Kit, tell: Callable[[int], Any] = lambda done: None
) -> list[Forecast]:
    """The cost of every cell; cells that differ only in how they are scaled are measured once."""
    known: dict[tuple[Any, ...], Sample] = {}
    found = []
    for cell in cells:
        cut, times, answers = shortened(cell)
        kind = _kind(cut)
        measured = 0 if kind in known else min(FEW, cell.images)
        if measured:
            known[kind] = _sample(cut, kit)
        found.append(_scaled(known[kind], cell, measured, times, answers))
        tell(1)
    return found


def shortened(cell: Cell) -> tuple[Cell, float, float]:
    """A cell that is quick to measure, and by what its attack and its judging are to be scaled."""
    options, cuts = dict(cell.options), dict.fromkeys(SHORT, 1.0)
    for name, few in SHORT.items():
        count = options.get(name)
        if cell.purifier and cell.task == "attack" and type(count) is int and count > 2 * few:
            options[name], cuts[name] = few, count / few
    times = cuts["draws"] * max(cuts["steps"], cuts["queries"])  # who has both does one, then one
    if times > 1 and "stop" in options:
        options["stop"] = 0
    answers = ANSWERS if cell.answers > 2 * ANSWERS else cell.answers
    return replace(cell, options=options, answers=answers), times, cell.answers / answers


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


def _sample(cell: Cell, kit: Kit) -> Sample:
    """A few images of a cell, all at once."""
    few = replace(cell, images=min(FEW, cell.images), micro_batch=min(FEW, cell.images))
    few = replace(few, content={"algorithm": cell.content.get("algorithm")})
    done = compute(few, few.pieces, kit)  # loads, and warms up
    again = compute(few, few.pieces, kit) if done.seconds + done.other < 1 else done
    count = len(again.rows)
    names = ("calls", "forwards", "backwards")
    return Sample(
        attack=again.seconds / count,
        judging=again.other / count,
        memory=again.memory,
        bytes=sum(map(len, again.files.values())) // count + 1500,
        **{n: math.fsum(row[n] for row in again.rows) / count for n in names},
    )


def _scaled(one: Sample, cell: Cell, measured: int, times: float, answers: float) -> Forecast:
    """From an image to the cell; short micro-batches are padded, and cost as whole ones."""
    whole = len(cell.pieces) * cell.micro_batch
    return Forecast(
        cell=cell,
        measured=measured,
        seconds=(times * one.attack + answers * one.judging) * whole,
        calls=times * one.calls * cell.images,
        forwards=times * one.forwards * cell.images,
        backwards=times * one.backwards * cell.images,
        memory=one.memory,
        bytes=one.bytes * cell.images,
    )
