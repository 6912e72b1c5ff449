"""What an assessment would cost: each kind of cell measured on a few images, and scaled up.

Seconds, calls and memory are those of this machine, of one process on one core; what an attack
does to other images may take longer or shorter, so that a forecast is good to a factor of two.
Long attacks on a purifier are measured on a few steps and draws, as if no image were left alone
early: where an attack has ``early_stop_draws`` that is an upper bound, which may be ten times too high.
Memory is that of these few images and draws: more of them at once take more.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreag.assess.experiments import Cell
from scoreag.assess.model_cache import ModelCache
from scoreag.assess.run_attack import compute_rows

SAMPLE_IMAGES = 2  # images that are measured of each kind of cell
SAMPLE_OPTIONS = {
    "steps": 5,
    "n_queries": 10,
    "eot_samples": 4,
}  # of an attack on a purifier that has many more
SAMPLE_DRAWS = 10  # of its judging
COST_NEUTRAL_OPTIONS = ("loss", "norm", "eot_weighting")  # words that cost the same


@dataclass(frozen=True)
class CostEstimate:
    """What a cell would cost, and on how many images that was measured (0: as another cell)."""

    cell: Cell
    n_measured: int
    seconds: float
    nfe: float
    forwards: float
    backwards: float
    memory_bytes: int
    disk_bytes: int


@dataclass(frozen=True)
class CostSample:
    """What an image of a shortened cell costs: seconds of its attack and of its judging."""

    attack_seconds: float
    scoring_seconds: float
    nfe: float
    forwards: float
    backwards: float
    memory_bytes: int
    disk_bytes: int


def estimate_costs(
    cells: Sequence[Cell], cache: ModelCache, progress: Callable[[int], Any] = lambda done: None
) -> list[CostEstimate]:
    """The cost of every cell; cells that differ only in how they are scaled are measured once."""
    known: dict[tuple[Any, ...], CostSample] = {}
    found = []
    for cell in cells:
        cut, times, answers = shorten_cell(cell)
        kind = _cost_key(cut)
        measured = 0 if kind in known else min(SAMPLE_IMAGES, cell.images)
        if measured:
            known[kind] = _measure_sample(cut, cache)
        found.append(_scale_cost(known[kind], cell, measured, times, answers))
        progress(1)
    return found


def shorten_cell(cell: Cell) -> tuple[Cell, float, float]:
    """A cell that is quick to measure, and by what its attack and its judging are to be scaled."""
    options, cuts = dict(cell.options), dict.fromkeys(SAMPLE_OPTIONS, 1.0)
    for name, few in SAMPLE_OPTIONS.items():
        count = options.get(name)
        if cell.purifier and cell.task == "attack" and type(count) is int and count > 2 * few:
            options[name], cuts[name] = few, count / few
    times = cuts["eot_samples"] * max(
        cuts["steps"], cuts["n_queries"]
    )  # who has both does one, then one
    if times > 1 and "early_stop_draws" in options:
        options["early_stop_draws"] = 0
    answers = SAMPLE_DRAWS if cell.eval_draws > 2 * SAMPLE_DRAWS else cell.eval_draws
    return replace(cell, options=options, eval_draws=answers), times, cell.eval_draws / answers


def _cost_key(cell: Cell) -> tuple[Any, ...]:
    """What the cost of an image depends on: strength, radius and seed do not count."""
    told = (cell.options, cell.purifier_options, cell.attacker_options)
    counts = [
        {n: v for n, v in of.items() if not isinstance(v, float) and n not in COST_NEUTRAL_OPTIONS}
        for of in told
    ]
    return (
        cell.group, cell.classifier, cell.component, cell.purifier, cell.eval_draws, cell.is_ood,
        repr(counts), bool(cell.options.get("attack_scale", 1)),
    )  # fmt: skip


def _measure_sample(cell: Cell, cache: ModelCache) -> CostSample:
    """A few images of a cell, all at once."""
    few = replace(
        cell, images=min(SAMPLE_IMAGES, cell.images), batch_size=min(SAMPLE_IMAGES, cell.images)
    )
    few = replace(few, content={"algorithm": cell.content.get("algorithm")})
    done = compute_rows(few, few.batches, cache)  # loads, and warms up
    again = (
        compute_rows(few, few.batches, cache)
        if done.attack_seconds + done.scoring_seconds < 1
        else done
    )
    count = len(again.rows)
    names = ("nfe", "forwards", "backwards")
    return CostSample(
        attack_seconds=again.attack_seconds / count,
        scoring_seconds=again.scoring_seconds / count,
        memory_bytes=again.memory_bytes,
        disk_bytes=sum(map(len, again.files.values())) // count + 1500,
        **{n: math.fsum(row[n] for row in again.rows) / count for n in names},
    )


def _scale_cost(
    per_image: CostSample, cell: Cell, n_measured: int, attack_factor: float, scoring_factor: float
) -> CostEstimate:
    """From an image to the cell; short micro-batches are padded, and cost as whole ones."""
    whole = len(cell.batches) * cell.batch_size
    return CostEstimate(
        cell=cell,
        n_measured=n_measured,
        seconds=(
            attack_factor * per_image.attack_seconds + scoring_factor * per_image.scoring_seconds
        )
        * whole,
        nfe=attack_factor * per_image.nfe * cell.images,
        forwards=attack_factor * per_image.forwards * cell.images,
        backwards=attack_factor * per_image.backwards * cell.images,
        memory_bytes=per_image.memory_bytes,
        disk_bytes=per_image.disk_bytes * cell.images,
    )
