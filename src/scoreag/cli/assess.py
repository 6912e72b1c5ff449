"""assess: run the experiments of a plan, here, in processes or on Ray, and report on them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from scoreag.cli import options as o
from scoreag.cli.options import UsageError
from scoreag.cli.runs import (
    command_line,
    format_duration,
    say_where,
    show_report,
    write_report,
)

if TYPE_CHECKING:
    from scoreag.assess.cost_estimate import CostEstimate
    from scoreag.assess.executors import Outcome, Shard
    from scoreag.assess.experiments import Cell, ModelCache
    from scoreag.assess.plan import Plan


_PLAN_HELP = "quick, paper, full, or a file PLAN.toml; see: scoreag list plans."
_OUT_HELP = "Folder of the assessment; the same command resumes it."
_WORKERS_HELP = "Processes, or actors of Ray."
Workers = Annotated[int | None, o.Opt(_WORKERS_HELP, "this process", o.at_least(0))]


@dataclass(frozen=True, kw_only=True)
class AssessOptions:
    plan: Annotated[str, o.Opt(_PLAN_HELP, positional=True)]
    out: Annotated[str | None, o.Opt(_OUT_HELP, check=o.not_empty)] = None
    workers: Workers = None
    ray: o.RayAddress = None
    dry_run: Annotated[bool, o.switch("Measure a few images, and estimate the cost.")] = False
    shard: o.Shard = None
    only: Annotated[str | None, o.Opt("One cell by name or key, or a pattern: '*/pgd*'.")] = None
    lpips_weights: Annotated[str | None, o.Opt("FEATURES.npz,HEADS.npz of LPIPS.", "none")] = None
    download_lpips: Annotated[bool, o.switch("Download the weights of LPIPS if missing.")] = False
    max_memory: o.MaxMemory = None
    data_dir: o.DataDir = None
    write_every: Annotated[int, o.Opt("Images between two writes.", check=o.at_least(1))] = 64
    overwrite: o.Overwrite = False
    output: o.RunOutputOptions
    compute: o.DeviceOptions


def assess(options: AssessOptions) -> None:
    """Evaluate robustness by a plan of attacks and defenses.

    scoreag assess quick --out runs/quick
    """
    from scoreag.assess.plan import load_plan, set_max_memory

    if not options.out and not options.dry_run:
        raise UsageError("--out is missing: the folder of the assessment")
    plan = load_plan(options.plan, options.compute.trust_code)
    assess_plan(set_max_memory(plan, options.max_memory), options)


def assess_plan(plan: "Plan", options: AssessOptions) -> None:
    """Run the experiments of ``plan``, or estimate their cost."""
    from scoreag.assess.experiments import ModelCache
    from scoreag.assess.resolve import resolve_plan, skipped_attacks
    from scoreag.assess.runner import select_cells

    output, compute = options.output, options.compute
    output.read_model_info()
    lpips = "fetch" if options.download_lpips else options.lpips_weights or ""
    cache = ModelCache(options.data_dir, compute.device, lpips, output.progress, compute.trust_code)
    cells = resolve_plan(plan, cache)
    if skipped := skipped_attacks(plan, cache):
        output.say(
            "skipped, as they need the weights of LPIPS (--lpips-weights, or --download-lpips): "
            + ", ".join(skipped)
        )
    selected = select_cells(cells, options.only)
    for data in cache.datasets:
        output.say(f"read {data.summary}")
    if options.dry_run:
        estimate(options, cache, selected)
    else:
        _run(options, plan, cache, cells)


def _run(options: AssessOptions, plan: Any, cache: "ModelCache", cells: "Sequence[Cell]") -> None:
    from scoreag.assess.runner import assess, build_manifest, probe_classifiers, stale_cells

    folder, output = Path(options.out or ""), options.output
    status = assess(
        cells, folder, build_manifest(plan, cache, command_line()),
        partial(_execute, options, cache), options.only, options.write_every, options.overwrite,
        output.progress, probe_classifiers(cells, cache), o.parse_shard(options.shard),
    )  # fmt: skip
    for file in status.corrupt:
        output.say(f"{file} had changed since it was written; its images were recomputed")
    if stale := stale_cells(folder, cells):
        output.say(f"{len(stale)} cells in {folder} are of other weights or versions, and not used")
    write_report(folder)
    if not status.failed or output.format == o.PLAIN:  # other formats are read by programs
        show_report(output, folder, options.only)
    say_where(output, folder)
    if status.failed:
        name, message = next(iter(status.failed.items()))
        more = f" (and {len(status.failed) - 1} more cells)" if len(status.failed) > 1 else ""
        raise ValueError(
            f"{name} failed{more}: {message}; all other cells are done. {folder}/cells/*/failed.txt"
            " have the details; the same command tries again"
        )


def _execute(
    options: AssessOptions, cache: "ModelCache", shards: "Iterable[Shard]"
) -> "Iterator[tuple[Shard, Outcome]]":
    from scoreag.assess import executors

    if options.ray:
        return executors.run_on_ray(shards, cache, options.workers, options.ray)
    if options.workers:
        return executors.run_in_processes(shards, cache, options.workers)
    return executors.run_serial(shards, cache)


def estimate(options: AssessOptions, cache: "ModelCache", cells: "Sequence[Cell]") -> None:
    """Print the estimated cost of each experiment and in total; nothing is written."""
    from scoreag.assess.cost_estimate import estimate_costs
    from scoreag.io.progress import progress_bar

    show = options.output.progress
    with progress_bar(total=len(cells), unit="cell", desc="dry run", show=show) as bar:
        costs = estimate_costs(cells, cache, bar.update)
    rows = [
        {
            "cell": one.cell.name,
            "images": one.cell.images,
            "measured_on": one.n_measured,
            "seconds": round(one.seconds, 1),
            "score_model_calls": round(one.nfe),
            "classifier_calls": round(one.forwards),
            "gradients": round(one.backwards),
            "memory_mb": one.memory_bytes >> 20,
            "disk_mb": round(one.disk_bytes / 2**20, 1),
        }
        for one in costs
    ]
    options.output.show(rows, _format_costs(costs, rows, max(1, options.workers or 1)))


def _format_costs(
    costs: "Sequence[CostEstimate]", rows: Sequence[dict[str, Any]], workers: int
) -> str:
    width = max(len(row["cell"]) for row in rows)
    lines = [f"{'cell':<{width}} images  seconds  model calls  classifier calls  gradients"]
    lines += [
        f"{row['cell']:<{width}} {row['images']:>6}  {row['seconds']:>7}  "
        f"{row['score_model_calls']:>11}  {row['classifier_calls']:>16}  {row['gradients']:>9}"
        for row in rows
    ]
    seconds = sum(one.seconds for one in costs)
    memory = max(one.memory_bytes for one in costs) >> 20
    disk = sum(one.disk_bytes for one in costs) >> 20
    lines.append(
        f"in all {format_duration(seconds)} of one core, {format_duration(seconds / workers)} with "
        f"{workers} worker{'s' * (workers > 1)} of at least {memory} MB each; {disk} MB on the "
        "disk. Measured on at most 2 images of each kind of cell: accurate to a factor of two; an "
        "attack with `early_stop_draws` takes less, down to a tenth."
    )
    return "\n".join(lines)
