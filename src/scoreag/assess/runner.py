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
from scoreag.assess.experiments import Cell, ModelCache, classifier_digests, content_digest
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
    """By the digest of its content, the name of each classifier, and its logits at a probe."""
    probes: dict[str, Any] = {}
    for cell in cells:
        for word in (cell.classifier, *cell.transfer_targets, *cell.reference_classifiers):
            classifier = cache.classifier(word)
            key = content_digest(classifier_digests(classifier))
            if key in probes:
                continue
            shape: Sequence[int] | None = classifier.image_shape
            if shape is None and cell.prior:
                shape = cache.prior(cell.prior).image_shape
            if shape is None:
                shape = cache.data(cell.data).images.shape[1:]
            image = torch.zeros(1, *shape, device=cache.torch_device)
            probes[key] = {"name": word, "probe": probe_classifier(classifier, image)}
    return probes


def select_cells(cells: Sequence[Cell], only: str | None) -> list[Cell]:
    """Those cells whose name or key is ``only``, or whose name fits it as a pattern.

    Raises:
        UnknownNameError: there is none; says which was probably meant.
    """
    if only is None:
        return list(cells)
    selected = [c for c in cells if only in (c.name, c.key) or fnmatch.fnmatchcase(c.name, only)]
    if not selected:
        near = did_you_mean(only, [cell.name for cell in cells])
        raise UnknownNameError(f"no cell {only!r}; {near}")
    return selected


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
        executor: computes shards, as ``run_serial`` does.
        only: as for ``select_cells``.
        probes: of the classifiers, by ``probe_classifiers``.

    Raises:
        ValueError: the folder is another plan's, or something else; or a classifier whose digests
            are what they were predicts otherwise.
        OSError: no room on the disk; what is written stays.
    """
    if shard_size < 1:
        raise ValueError(f"shards of {shard_size} images; expected 1 or more")
    selected = select_cells(cells, only)
    with open_run_dir(folder, manifest, storage.ASSESSMENT_FILES, overwrite) as run:
        status = RunStatus()
        storage.record_probes(folder, probes)
        for cell in cells:
            storage.write_cell(folder, cell)
        write_json(folder / storage.CELLS_FILE, {cell.name: cell.key for cell in cells})
        pending = _pending_batches(selected, folder, status)
        total = sum(len(batch) for _, batches in pending for batch in batches)
        bar = tqdm(total=total, unit="image", desc="assess", delay=2,
                   disable=None if progress else True)  # fmt: skip
        with bar:
            _run_pending(pending, folder, executor, shard_size, status, bar.update)
        if not status.failed and len(selected) == len(cells):
            run.finish()
        return status


def _pending_batches(
    cells: Sequence[Cell], folder: Path, status: RunStatus
) -> list[tuple[Cell, list[range]]]:
    """The missing batches of each cell; files that are not what they were are deleted."""
    pending = []
    for cell in cells:
        stored = storage.read_cell(folder, cell, check_pictures=True)
        storage.delete_shards(stored.corrupt)
        status.corrupt += stored.corrupt
        if batches := storage.pending_batches(cell, stored):
            pending.append((cell, batches))
            storage.clear_failure(folder, cell)
    return pending


def _run_pending(
    pending: Sequence[tuple[Cell, list[range]]], folder: Path, executor: Executor,
    shard_size: int, status: RunStatus, advance: Callable[[int], Any],
) -> None:  # fmt: skip
    def shards() -> Iterator[Shard]:
        for cell, batches in pending:
            for group in group_batches(batches, shard_size):
                if cell.name not in status.failed:  # it would only fail again
                    yield Shard(cell, tuple(group))

    with closing(executor(shards())) as outcomes:  # type: ignore[type-var]
        for shard, outcome in outcomes:
            if isinstance(outcome, Failure):
                status.failed.setdefault(shard.cell.name, outcome.message)
                message = f"{outcome.message}\n{outcome.trace}"
                storage.record_failure(folder, shard.cell, message)
            else:
                storage.write_shard(folder, shard.cell, outcome)
            advance(sum(map(len, shard.batches)))


def stale_cells(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Keys that lie in the folder but belong to no cell: of other weights, data or versions."""
    known = {cell.key for cell in cells}
    folders = (path.name for path in (folder / "cells").glob("*") if path.is_dir())
    return sorted(name for name in folders if name not in known)
