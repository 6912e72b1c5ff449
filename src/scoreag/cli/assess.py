"""assess: a plan's cells, computed here, in processes or on Ray, and their report."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoreag.cli.options import Given, loud, say
from scoreag.cli.parsing import UsageError
from scoreag.cli.tasks import command, render

if TYPE_CHECKING:
    from scoreag.assess.executors import Outcome, Shard
    from scoreag.assess.experiments import Cell
    from scoreag.assess.model_cache import ModelCache


def assess(given: Given) -> None:
    """Cross data, classifiers, purifiers and attacks as a plan says; one page says what holds."""
    from scoreag.assess.model_cache import ModelCache
    from scoreag.assess.plan import load_plan
    from scoreag.assess.plan_validation import resolve_plan, set_max_memory, skipped_attacks
    from scoreag.assess.runner import select_cells

    _check(given)
    plan = set_max_memory(load_plan(given.plan, given.trust_code), given.max_memory)
    kit = ModelCache(
        given.data_dir,
        given.device,
        "fetch" if given.download_lpips else given.lpips_weights or "",
        loud(given),
        given.trust_code,
    )
    cells = resolve_plan(plan, kit)
    if away := skipped_attacks(plan, kit):
        say(
            given,
            f"without the weights of LPIPS (--lpips-weights, --download-lpips) left out: {', '.join(away)}",
        )
    select_cells(cells, given.only)  # a mistyped name is told before anything is written
    for data in kit.datasets:
        say(given, f"read {data.summary}")
    if given.dry_run:
        _forecast(given, kit, select_cells(cells, given.only))
        return
    _run(given, plan, kit, cells)


def _check(given: Given) -> None:
    if not given.out and not given.dry_run:
        raise UsageError("--out is missing: the folder of the assessment")
    for flag, value in (("workers", given.workers), ("write-every", given.write_every)):
        least = 0 if flag == "workers" else 1
        if value is not None and value < least:
            raise UsageError(f"--{flag} is {value}; expected {least} or more")


def _run(given: Given, plan: Any, kit: "ModelCache", cells: Any) -> None:
    from scoreag.assess.runner import assess, build_manifest, probe_classifiers, stale_cells

    folder = Path(given.out)
    done = assess(
        cells, folder, build_manifest(plan, kit, command()), partial(_crew, given, kit),
        given.only, given.write_every, given.overwrite, loud(given), probe_classifiers(cells, kit),
    )  # fmt: skip
    for file in done.corrupt:
        say(given, f"{file} was not what had been written; its images were done again")
    if others := stale_cells(folder, cells):
        say(given, f"{len(others)} cells of other weights or versions are in {folder}, not used")
    page = render(folder)
    _tell(given, page)
    if done.failed:
        name, told = next(iter(done.failed.items()))
        more = f" (and {len(done.failed) - 1} cells more)" if len(done.failed) > 1 else ""
        raise ValueError(
            f"{name} failed{more}: {told}; all other cells are done. {folder}/cells/*/failed.txt "
            "say where it happened; the same command tries again"
        )


def _forecast(given: Given, kit: "ModelCache", cells: "Sequence[Cell]") -> None:
    """Every cell with what it would cost, and all together; nothing is written."""
    from tqdm import tqdm

    from scoreag.assess.cost_estimate import estimate_costs

    with tqdm(total=len(cells), unit="cell", delay=2, disable=None if loud(given) else True) as bar:
        found = estimate_costs(cells, kit, bar.update)
    rows = [
        {"cell": one.cell.name, "images": one.cell.images, "measured_on": one.n_measured,
         "seconds": round(one.seconds, 1), "score_model_calls": round(one.nfe),
         "classifier_calls": round(one.forwards), "gradients": round(one.backwards),
         "memory_mb": one.memory_bytes >> 20, "disk_mb": round(one.disk_bytes / 2**20, 1)}
        for one in found
    ]  # fmt: skip
    if given.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(len(one.cell.name) for one in found)
    print(f"{'cell':<{width}} images  seconds  model calls  classifier calls  gradients")
    for row in rows:
        print(
            f"{row['cell']:<{width}} {row['images']:>6}  {row['seconds']:>7}  "
            f"{row['score_model_calls']:>11}  {row['classifier_calls']:>16}  {row['gradients']:>9}"
        )
    seconds, workers = sum(one.seconds for one in found), max(1, given.workers or 1)
    disk, memory = (
        sum(one.disk_bytes for one in found) >> 20,
        max(one.memory_bytes for one in found) >> 20,
    )
    print(
        f"in all {duration(seconds)} of one core, {duration(seconds / workers)} with {workers} "
        f"worker{'s' * (workers > 1)} of at least {memory} MB each; {disk} MB on the disk. "
        "Measured on at most 2 images of each kind of cell: good to a factor of two; "
        "an attack with `stop` that leaves images alone early takes less, down to a tenth."
    )


def duration(seconds: float) -> str:
    """In the unit that a person would use."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _tell(given: Given, page: Path) -> None:
    """The results as a table, or the summary as JSON, and where all is."""
    if given.json:
        print((page.parent / "summary.json").read_text(encoding="utf-8"), end="")
    elif not given.quiet:
        print((page.parent / "tables" / "cells.md").read_text(encoding="utf-8"), end="")
    say(given, f"everything is in {page.parent}; open {page}")


def _crew(
    given: Given, kit: "ModelCache", shards: "Iterable[Shard]"
) -> "Iterator[tuple[Shard, Outcome]]":
    from scoreag.assess import executors

    if given.ray:
        from scoreag.assess.ray_executor import run_on_ray

        return run_on_ray(shards, kit, given.workers, given.ray)
    if given.workers:
        return executors.run_in_processes(shards, kit, given.workers)
    return executors.run_serial(shards, kit)
