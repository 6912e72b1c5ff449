"""An assessment on disk: every missing row of every cell, computed somewhere and written here."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scoreag.assess import storage
from scoreag.assess.executors import Failure, Outcome, Shard
from scoreag.assess.experiments import Cell
from scoreag.assess.model_cache import ModelCache, classifier_digests, content_digest
from scoreag.assess.plan import Plan
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import to_jsonable
from scoreag.io.records import group_batches
from scoreag.io.run_dir import open_run_dir
from scoreag.models.identity import probe_classifier
from scoreag.registry import UnknownNameError, did_you_mean

SHARD_IMAGES = 64  # images between two writes
Executor = Callable[[Iterable[Shard]], Iterator[tuple[Shard, Outcome]]]


@dataclass
class RunStatus:
    """How it went: cells that failed, why, and row files that were not what they had been."""

    failed: dict[str, str] = field(default_factory=dict)
    corrupt: list[Path] = field(default_factory=list)


def build_manifest(plan: Plan, cache: ModelCache, command: str | None) -> dict[str, Any]:
    """What determines an assessment; the content of each cell is in its own file."""
    return {
        "command": command,
        "task": f"assess {plan.name}",
        "plan": to_jsonable(plan.table),
        "device": cache.torch_device.type,
    }


def probe_classifiers(cells: Sequence[Cell], cache: ModelCache) -> dict[str, Any]:
    """By the digest of its content, the name of each classifier, and its answers to a probe."""
    found = {}
    for cell in cells:
        for word in (cell.classifier, *cell.transfer_targets, *cell.reference_classifiers):
            key = content_digest(classifier_digests(cache.classifier(word)))
            if key not in found:
                found[key] = {"name": word, "probe": _probe_classifier(cell, word, cache)}
    return found


def _probe_classifier(cell: Cell, name: str, cache: ModelCache) -> Any:
    victim = cache.classifier(name)
    shape: Sequence[int] | None = victim.image_shape
    if shape is None:
        drawn = bool(cell.prior)
        shape = (
            cache.prior(cell.prior).image_shape if drawn else cache.data(cell.data).images.shape[1:]
        )
    return probe_classifier(victim, torch.zeros(1, *shape, device=cache.torch_device))


def select_cells(cells: Sequence[Cell], only: str | None) -> list[Cell]:
    """Those cells whose name or key is ``only``, or whose name fits it as a pattern.

    Raises:
        UnknownName: there is none; says which was probably meant.
    """
    if only is None:
        return list(cells)
    found = [c for c in cells if only in (c.name, c.key) or fnmatch.fnmatchcase(c.name, only)]
    if not found:
        raise UnknownNameError(
            f"no cell {only!r}; {did_you_mean(only, [cell.name for cell in cells])}"
        )
    return found


def assess(
    cells: Sequence[Cell],
    folder: Path,
    manifest: Mapping[str, Any],
    executor: Executor,
    only: str | None = None,
    shard_size: int = SHARD_IMAGES,
    overwrite: bool = False,
    progress: bool = True,
    probes: Mapping[str, Any] | None = None,
) -> RunStatus:
    """Compute what ``folder`` lacks of ``cells``; one that fails does not stop the others.

    Args:
        found: the manifest, as ``manifest`` makes it.
        crew: computes shards, as ``workers.here`` does.
        only: as for ``chosen``.
        probes: of the classifiers, as ``probes_of`` asks for them.

    Raises:
        ValueError: the folder is another plan's, or something else; or a classifier whose digests
            are what they were answers otherwise.
        OSError: no room on the disk; what is written stays.
    """
    if shard_size < 1:
        raise ValueError(f"shards of {shard_size} images; expected 1 or more")
    some = select_cells(cells, only)
    with open_run_dir(folder, manifest, storage.ASSESSMENT_FILES, overwrite) as run:
        outcome = RunStatus()
        storage.record_probes(folder, probes)
        for cell in cells:
            storage.write_cell(folder, cell)
        write_json(folder / storage.CELLS_FILE, {cell.name: cell.key for cell in cells})
        todo = _pending_batches(some, folder, outcome)
        total = sum(len(piece) for _, pieces in todo for piece in pieces)
        bar = tqdm(total=total, unit="image", desc="assess", delay=2,
                   disable=None if progress else True)  # fmt: skip
        with bar:
            _run_pending(todo, folder, executor, shard_size, outcome, bar.update)
        if not outcome.failed and len(some) == len(cells):
            run.finish()
        return outcome


def _pending_batches(
    cells: Sequence[Cell], folder: Path, status: RunStatus
) -> list[tuple[Cell, list[range]]]:
    """The missing pieces of each cell; files that are not what they were are deleted."""
    todo = []
    for cell in cells:
        kept = storage.read_cell(folder, cell, check_pictures=True)
        storage.delete_shards(kept.corrupt)
        status.corrupt += kept.corrupt
        if pieces := storage.pending_batches(cell, kept):
            todo.append((cell, pieces))
            storage.clear_failure(folder, cell)
    return todo


def _run_pending(
    pending: Sequence[tuple[Cell, list[range]]],
    folder: Path,
    executor: Executor,
    size: int,
    status: RunStatus,
    advance: Callable[[int], Any],
) -> None:
    def coming() -> Iterator[Shard]:
        for cell, pieces in pending:
            for group in group_batches(pieces, size):
                if cell.name not in status.failed:  # it would only fail again
                    yield Shard(cell, tuple(group))

    with closing(executor(coming())) as computed:  # type: ignore[type-var]
        for shard, came in computed:
            if isinstance(came, Failure):
                status.failed.setdefault(shard.cell.name, came.message)
                storage.record_failure(folder, shard.cell, f"{came.message}\n{came.trace}")
            else:
                storage.write_shard(folder, shard.cell, came)
            advance(sum(map(len, shard.batches)))


def stale_cells(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Keys that lie in the folder but belong to no cell: of other weights, data or versions."""
    known = {cell.key for cell in cells}
    there = (path.name for path in (folder / "cells").glob("*") if path.is_dir())
    return sorted(name for name in there if name not in known)
