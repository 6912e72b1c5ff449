"""The cost of an assessment: each kind of cell is measured on a few images, and scaled up.

Seconds, calls and memory are those of one process on one core here, good to a factor of two.  Long
attacks on a purifier are measured on a few steps and draws, without early stopping: attacks with
``early_stop_draws`` may take a tenth.  Larger batches take more memory than the measured one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scoreag.assess.experiments import Cell, ModelCache
from scoreag.assess.run_attack import compute_rows
from scoreag.assess.runner import SHARD_IMAGES
from scoreag.assess.score_batch import ScoredBatch
from scoreag.methods.dry_run import count_all_batches

SAMPLE_IMAGES = 2  # measured images of each kind of cell
# measured steps and draws of an attack on a purifier that has many more
SAMPLE_OPTIONS = {"steps": 5, "n_queries": 10, "eot_samples": 4}
SAMPLE_DRAWS = 10  # measured draws of the evaluation
ROW_BYTES = 1500  # of a row on the disk, about
COST_NEUTRAL_OPTIONS = ("loss", "norm", "eot_weighting")


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a cell, and on how many images it was measured (0: like another cell)."""

    cell: Cell
    n_measured: int
    seconds: float
    nfe: float
    forwards: float
    backwards: float
    memory_bytes: int
    disk_bytes: int


def estimate_costs(
    cells: Sequence[Cell], cache: ModelCache, progress: Callable[[int], Any] = lambda done: None
) -> list[CostEstimate]:
    """The cost of every cell; cells of one kind, which differ in scale only, are measured once."""
    samples: dict[tuple[Any, ...], ScoredBatch] = {}
    estimates = []
    for cell in cells:
        short, attack_factor, scoring_factor = shorten_cell(cell)
        key = _cost_key(short)
        n_measured = 0 if key in samples else min(SAMPLE_IMAGES, cell.images)
        if n_measured:
            samples[key] = _measure_sample(short, n_measured, cache)
        estimates.append(_scale(samples[key], cell, n_measured, attack_factor, scoring_factor))
        progress(1)
    return estimates


def shorten_cell(cell: Cell) -> tuple[Cell, float, float]:
    """A cell that is quick to measure, and the factors of its attack and of its evaluation."""
    options, factors = dict(cell.options), dict.fromkeys(SAMPLE_OPTIONS, 1.0)
    for name, few in SAMPLE_OPTIONS.items():
        count = options.get(name)
        if cell.purifier and cell.task == "attack" and type(count) is int and count > 2 * few:
            options[name], factors[name] = few, count / few
    # an attack that has both does steps first, then queries
    attack_factor = factors["eot_samples"] * max(factors["steps"], factors["n_queries"])
    if attack_factor > 1 and "early_stop_draws" in options:
        options["early_stop_draws"] = 0
    draws = SAMPLE_DRAWS if cell.eval_draws > 2 * SAMPLE_DRAWS else cell.eval_draws
    short = replace(cell, options=options, eval_draws=draws)
    return short, attack_factor, cell.eval_draws / draws


def _cost_key(cell: Cell) -> tuple[Any, ...]:
    """What determines the cost of an image; strength, radius and seed do not."""
    options = [
        {n: v for n, v in of.items() if not isinstance(v, float) and n not in COST_NEUTRAL_OPTIONS}
        for of in (cell.options, cell.purifier_options, cell.attacker_options)
    ]
    return (
        cell.group, cell.classifier, cell.component, cell.purifier, cell.eval_draws, cell.is_ood,
        repr(options), bool(cell.options.get("attack_scale", 1)),
    )  # fmt: skip


def _measure_sample(cell: Cell, count: int, cache: ModelCache) -> ScoredBatch:
    """A few images of a cell, in one batch."""
    content = {"algorithm": cell.content.get("algorithm")}
    few = replace(cell, images=count, batch_size=count, content=content)
    sample = compute_rows(few, few.batches, cache)  # loads, and warms up
    if sample.attack_seconds + sample.scoring_seconds < 1:
        sample = compute_rows(few, few.batches, cache)
    return sample


def _scale(
    sample: ScoredBatch, cell: Cell, n_measured: int, attack_factor: float, scoring_factor: float
) -> CostEstimate:
    """Scale a sample to its cell; short batches are padded, and cost as much as full ones."""
    count = len(sample.rows)
    tries = [row["restarts"] + 1 for row in sample.rows]
    batches = count_all_batches(tries, cell.images, cell.batch_size, SHARD_IMAGES)
    seconds = attack_factor * sample.attack_seconds + scoring_factor * sample.scoring_seconds
    nfe, forwards, backwards = (
        attack_factor * cell.images * math.fsum(row[name] for row in sample.rows) / count
        for name in ("nfe", "forwards", "backwards")
    )
    return CostEstimate(
        cell=cell,
        n_measured=n_measured,
        seconds=seconds / (count * max(tries)) * batches * cell.batch_size,
        nfe=nfe,
        forwards=forwards,
        backwards=backwards,
        memory_bytes=sample.memory_bytes,
        disk_bytes=(sum(map(len, sample.files.values())) // count + ROW_BYTES) * cell.images,
    )
