"""An assessment on disk: every missing row of every cell, computed somewhere and written here."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scoreag.assess import store
from scoreag.assess.cells import Cell
from scoreag.assess.kit import Kit, mark, of_classifier
from scoreag.assess.plan import Plan
from scoreag.assess.workers import Failure, Outcome, Shard
from scoreag.load import UnknownName, hint
from scoreag.runs import folder as place
from scoreag.runs.drive import groups
from scoreag.runs.manifest import FORMAT, circumstances, now, plain
from scoreag.runs.probe import probe

SHARD = 64  # images between two writes
Crew = Callable[[Iterable[Shard]], Iterator[tuple[Shard, Outcome]]]


@dataclass
class Done:
    """How it went: cells that failed, why, and row files that were not what they had been."""

    failed: dict[str, str] = field(default_factory=dict)
    harmed: list[Path] = field(default_factory=list)


def manifest(plan: Plan, kit: Kit, command: str | None) -> dict[str, Any]:
    """What determines an assessment; the content of each cell is in its own file."""
    return {
        "format": FORMAT,
        "command": command,
        "task": f"assess {plan.name}",
        "plan": plain(plan.text),
        "device": kit.place.type,
        **circumstances(),
    }


def probes_of(cells: Sequence[Cell], kit: Kit) -> dict[str, Any]:
    """By the digest of its content, the name of each classifier, and its answers to a probe."""
    found = {}
    for cell in cells:
        for word in (cell.victim, *cell.others, *cell.judges):
            key = mark(of_classifier(kit.classifier(word)))
            if key not in found:
                found[key] = {"name": word, "probe": _probe(cell, word, kit)}
    return found


def _probe(cell: Cell, word: str, kit: Kit) -> Any:
    victim = kit.classifier(word)
    shape: Sequence[int] | None = victim.image_shape
    if shape is None:
        drawn = bool(cell.prior)
        shape = kit.prior(cell.prior).image_shape if drawn else kit.data(cell.data).images.shape[1:]
    return probe(victim, torch.zeros(1, *shape, device=kit.place))


def chosen(cells: Sequence[Cell], only: str | None) -> list[Cell]:
    """Those cells whose name or key is ``only``, or whose name fits it as a pattern.

    Raises:
        UnknownName: there is none; says which was probably meant.
    """
    if only is None:
        return list(cells)
    found = [c for c in cells if only in (c.name, c.key) or fnmatch.fnmatchcase(c.name, only)]
    if not found:
        raise UnknownName(f"no cell {only!r}; {hint(only, [cell.name for cell in cells])}")
    return found


def assess(
    cells: Sequence[Cell],
    folder: Path,
    found: Mapping[str, Any],
    crew: Crew,
    only: str | None = None,
    shard_size: int = SHARD,
    overwrite: bool = False,
    progress: bool = True,
    probes: Mapping[str, Any] | None = None,
) -> Done:
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
    some = chosen(cells, only)
    with (
        place.alone(folder) as fresh,
        place.withdrawn(folder, fresh, store.OURS, (store.ROW_FILES,)),
    ):
        claimed = place.claim(folder, found, overwrite, store.OURS, store.named)
        outcome = Done()
        store.keep_probes(folder, probes)
        for cell in cells:
            store.describe(folder, cell)
        place.write_json(folder / store.LIST, {cell.name: cell.key for cell in cells})
        todo = _todo(some, folder, outcome)
        total = sum(len(piece) for _, pieces in todo for piece in pieces)
        bar = tqdm(total=total, unit="image", desc="assess", delay=2,
                   disable=None if progress else True)  # fmt: skip
        with bar:
            _fill(todo, folder, crew, shard_size, outcome, bar.update)
        whole = not outcome.failed and len(some) == len(cells)
        if whole and not claimed.get("finished"):
            place.write(folder, {**claimed, "finished": now()})
        return outcome


def _todo(cells: Sequence[Cell], folder: Path, outcome: Done) -> list[tuple[Cell, list[range]]]:
    """The missing pieces of each cell; files that are not what they were are deleted."""
    todo = []
    for cell in cells:
        kept = store.read(folder, cell, pictures=True)
        store.discard(kept.harmed)
        outcome.harmed += kept.harmed
        if pieces := store.missing(cell, kept):
            todo.append((cell, pieces))
            store.recover(folder, cell)
    return todo


def _fill(
    todo: Sequence[tuple[Cell, list[range]]],
    folder: Path,
    crew: Crew,
    size: int,
    outcome: Done,
    advance: Callable[[int], Any],
) -> None:
    def coming() -> Iterator[Shard]:
        for cell, pieces in todo:
            for group in groups(pieces, size):
                if cell.name not in outcome.failed:  # it would only fail again
                    yield Shard(cell, tuple(group))

    with closing(crew(coming())) as computed:  # type: ignore[type-var]
        for shard, came in computed:
            if isinstance(came, Failure):
                outcome.failed.setdefault(shard.cell.name, came.told)
                store.fail(folder, shard.cell, f"{came.told}\n{came.trace}")
            else:
                store.write(folder, shard.cell, came)
            advance(sum(map(len, shard.pieces)))


def unused(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Keys that lie in the folder but belong to no cell: of other weights, data or versions."""
    known = {cell.key for cell in cells}
    there = (path.name for path in (folder / "cells").glob("*") if path.is_dir())
    return sorted(name for name in there if name not in known)
