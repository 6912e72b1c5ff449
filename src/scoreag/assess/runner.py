"""An assessment on disk: the missing rows of every cell are computed, written and read again.

    cells.json                               the keys by the names of the cells
    cells/KEY/cell.json                      the cell
    cells/KEY/000000-000064-DIGEST.jsonl     rows of the positions 0 to 63
    cells/KEY/000000-000064-DIGEST.features  their features; the digest is that of both files
    cells/KEY/000000-000064-DIGEST.cost      seconds, memory, and the names of the pictures
    cells/KEY/images/000123.png              originals/DATA/000123.png

The cost is written first, then pictures and features, then the rows.  A file that does not match
its name is deleted, and its images are computed again.
"""

import fnmatch
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scoreag.assess.executors import Failure, Outcomes, Shard
from scoreag.assess.experiments import (
    Cell,
    ModelCache,
    cell_from_dict,
    classifier_digests,
    content_digest,
)
from scoreag.assess.plan import Plan
from scoreag.assess.score_batch import ScoredBatch
from scoreag.io.filesystem import (
    atomic_write,
    check_regular_file,
    describe_file_type,
    file_sha256,
    write_json,
    write_text,
)
from scoreag.io.manifest import probes_differ, to_jsonable
from scoreag.io.progress import progress_bar
from scoreag.io.records import NONE_TYPE, Fields, Row, files_intact, row_error
from scoreag.io.resume import group_batches
from scoreag.io.run_dir import FIGURES, RunFiles, open_run_dir, page_files
from scoreag.io.run_shards import SHARD, RunShard
from scoreag.models.identity import probe_classifier
from scoreag.registry import UnknownNameError, did_you_mean

SHARD_IMAGES = 64  # images between two writes
CELLS_FILE, PROBES_FILE = "cells.json", "probes.json"
FAILURE_FILE, DISTANCES_FILE = "failed.txt", "distances.json"
REPORT_TABLES = (  # of a report; further tables end with the name of a dataset or the key of a cell
    "cells", "worst_case", "randomized", "differences", "shown_differences", "perturbation_size",
    "generator", "ood", "cost", "semantic",
)  # fmt: skip
ROW_FIELDS: Fields = {  # of every row
    **dict.fromkeys(("image_id", "position", "label"), (int,)),
    "target": (int, NONE_TYPE),
    **dict.fromkeys(("predictions", "judges"), (dict,)),
    **dict.fromkeys(("success_float", "success", "targeted_success"), (bool,)),
    "backwards": (int, float),
    **dict.fromkeys(("file", "sha256"), (str,)),
}
_KEY = re.compile(r"[0-9a-f]{16}")
_FIGURE_FILE = re.compile(r"(trade_off|sweep)_\d\d+\.svg")
_SHARD_FILE = re.compile(r"\d{6,}-\d{6,}-[0-9a-f]{12}\.(jsonl|features|cost)")

Executor = Callable[[Iterable[Shard]], Outcomes]


@dataclass
class RunStatus:
    """The failed cells with the reason, and the corrupt row files that were found."""

    failed: dict[str, str] = field(default_factory=dict)
    corrupt: list[Path] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class StoredCell:
    """The rows of a cell on disk in the order of their positions, and their features."""

    rows: list[Row]
    features: Tensor | None
    seconds: float
    memory_bytes: int
    corrupt: list[Path]


def build_manifest(plan: Plan, cache: ModelCache, command: str | None) -> dict[str, Any]:
    """What determines an assessment; the content of each cell is in its own file."""
    return {
        "command": command,
        "task": f"assess {plan.name}",
        "plan": to_jsonable(plan.table),
        "device": cache.torch_device.type,
    }


def probe_classifiers(cells: Sequence[Cell], cache: ModelCache) -> dict[str, Any]:
    """Each classifier's name and logits for a black image, by the digest of its content."""
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
    """The cells whose name or key is ``only``, or whose name matches it as a pattern.

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
    shard: RunShard | None = None,
) -> RunStatus:
    """Compute the rows of ``cells`` that ``folder`` lacks; a failed cell does not stop the others.

    Args:
        executor: computes shards, as ``run_serial`` does.
        only: as for ``select_cells``.
        probes: of the classifiers, by ``probe_classifiers``.
        shard: computes only these batches of all cells; ``merge_assessments`` joins the folders.

    Raises:
        ValueError: the folder holds another plan or something else, or a classifier predicts
            otherwise although its digests are the same.
        OSError: the disk is full; what was written stays.
    """
    if shard_size < 1:
        raise ValueError(f"shards of {shard_size} images; expected 1 or more")
    selected = select_cells(cells, only)
    own = shard_batches(cells, shard)
    if shard is not None:
        manifest = {**manifest, SHARD: {"number": shard.number, "count": shard.count}}
    with open_run_dir(folder, manifest, ASSESSMENT_FILES, overwrite) as run:
        status = RunStatus()
        record_probes(folder, probes or {})
        for cell in cells:
            write_cell(folder, cell)
        write_json(folder / CELLS_FILE, {cell.name: cell.key for cell in cells})
        pending = _find_pending(selected, folder, status, own)
        total = sum(len(batch) for _, batches in pending for batch in batches)
        with progress_bar(total=total, unit="image", desc="assess", show=progress) as bar:
            _run_pending(pending, folder, executor, shard_size, status, bar.update)
        if not status.failed and len(selected) == len(cells):
            run.finish()
        return status


def shard_batches(cells: Sequence[Cell], shard: RunShard | None) -> set[tuple[str, range]]:
    """The batches of a shard by the key of their cell; all without shards."""
    batches = [(cell.key, batch) for cell in cells for batch in cell.batches]
    return {*(batches if shard is None else shard.select(batches))}


def _find_pending(
    cells: Sequence[Cell], folder: Path, status: RunStatus, own: set[tuple[str, range]]
) -> list[tuple[Cell, list[range]]]:
    """The missing batches of each cell among ``own``; corrupt files are deleted."""
    pending = []
    for cell in cells:
        stored = read_cell(folder, cell, check_pictures=True)
        for file in stored.corrupt:
            for suffix in (".jsonl", ".features", ".cost"):
                file.with_suffix(suffix).unlink(missing_ok=True)
        status.corrupt += stored.corrupt
        if batches := [b for b in pending_batches(cell, stored) if (cell.key, b) in own]:
            pending.append((cell, batches))
            (cell_folder(folder, cell) / FAILURE_FILE).unlink(missing_ok=True)
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
                record_failure(folder, shard.cell, f"{outcome.message}\n{outcome.trace}")
            else:
                write_shard(folder, shard.cell, outcome)
            advance(sum(map(len, shard.batches)))


def stale_cells(folder: Path, cells: Sequence[Cell]) -> list[str]:
    """Keys in the folder that belong to none of ``cells``: of other weights, data or versions."""
    known = {cell.key for cell in cells}
    folders = (path.name for path in (folder / "cells").glob("*") if path.is_dir())
    return sorted(name for name in folders if name not in known)


def cell_folder(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / cell.key


def write_cell(folder: Path, cell: Cell) -> None:
    """Write cell.json."""
    file = cell_folder(folder, cell) / "cell.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(cell.to_dict(), indent=2, ensure_ascii=False) + "\n")


def write_shard(folder: Path, cell: Cell, scored: ScoredBatch) -> None:
    """Write the cost of some rows, their pictures and features, and then the rows.

    Raises:
        OSError: the disk is full, or does not return what was written.
    """
    place = cell_folder(folder, cell)
    (place / "images").mkdir(parents=True, exist_ok=True)
    begin, end = scored.rows[0]["position"], scored.rows[-1]["position"] + 1
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in scored.rows).encode()
    features = {} if scored.features is None else {"features": scored.features.contiguous()}
    packed = save(features) if features else b""
    stem = f"{begin:06d}-{end:06d}-{_digest(text, packed)}"
    cost = {
        "seconds": round(scored.attack_seconds + scored.scoring_seconds, 4),
        "memory": scored.memory_bytes,
        "images": len(scored.rows),
        "files": sorted(scored.files),
    }
    write_text(place / f"{stem}.cost", json.dumps(cost))
    for name, data in scored.files.items():
        _write_picture(folder / name, data)
    if packed:
        atomic_write(place / f"{stem}.features", lambda aside: aside.write_bytes(packed))
    atomic_write(place / f"{stem}.jsonl", lambda aside: aside.write_bytes(text))


def _write_picture(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda aside: aside.write_bytes(data))
    if file_sha256(path) != hashlib.sha256(data).hexdigest():
        raise OSError(f"{path} does not hold what was written to it")


def _digest(text: bytes, packed: bytes) -> str:
    return hashlib.sha256(text + packed).hexdigest()[:12]


def read_cell(folder: Path, cell: Cell, check_pictures: bool = False) -> StoredCell:
    """The intact rows of a cell.

    Args:
        check_pictures: skip rows whose pictures are missing or changed.
    """
    corrupt: list[Path] = []
    rows: dict[int, Row] = {}
    features: dict[int, Tensor] = {}
    seconds, memory_bytes = [], [0]
    for file in sorted(cell_folder(folder, cell).glob("*.jsonl")):
        shard = None if describe_file_type(file) else _read_shard(file, cell)
        if shard is None:
            corrupt.append(file)
            continue
        intact = [row for row in shard[0] if not check_pictures or files_intact(folder, row)]
        rows |= {row["position"]: row for row in intact}
        features |= shard[1]
        cost = _read_cost(file.with_suffix(".cost"))
        if all(isinstance(cost.get(name), float | int) for name in ("seconds", "memory")):
            seconds.append(cost["seconds"])
            memory_bytes.append(cost["memory"])
    order = sorted(rows)
    return StoredCell(
        [rows[i] for i in order],
        torch.stack([features[i] for i in order]) if features and order else None,
        math.fsum(seconds),
        max(memory_bytes),
        corrupt,
    )


def _read_shard(file: Path, cell: Cell) -> tuple[list[Row], dict[int, Tensor]] | None:
    """The rows of a file, and their features by position; None where the file is corrupt."""
    side = file.with_suffix(".features")
    text, packed = file.read_bytes(), side.read_bytes() if side.is_file() else b""
    if file.stem.rpartition("-")[2] != _digest(text, packed):
        return None
    try:
        rows = [json.loads(line) for line in text.splitlines()]
        positions = [row["position"] for row in rows]
        features = load(packed)["features"] if packed else torch.empty(0)
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return None
    if not positions or any(row_error(row, ROW_FIELDS) for row in rows):
        return None
    if min(positions) < 0 or max(positions) >= cell.images:
        return None
    return rows, dict(zip(positions, features, strict=True)) if packed else {}


def _read_cost(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        cost = _read_json(file)
        return cost if isinstance(cost, dict) else {}
    return {}


def _read_json(file: Path) -> dict[str, Any]:
    check_regular_file(file)
    table: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return table


def pending_batches(cell: Cell, stored: StoredCell) -> list[range]:
    """The batches of a cell that lack a row; whole ones, as others would round differently."""
    positions = {row["position"] for row in stored.rows}
    return [batch for batch in cell.batches if not positions.issuperset(batch)]


def list_cells(folder: Path) -> list[Cell]:
    """The cells of an assessment, in the order of its plan.

    Raises:
        ValueError: the folder holds no assessment, or its files are damaged.
    """
    try:
        keys = _read_json(folder / CELLS_FILE)
        if invalid := [key for key in keys.values() if not _KEY.fullmatch(str(key))]:
            raise ValueError(f"{invalid[0]!r:.60} is no key of a cell")
        files = [folder / "cells" / str(key) / "cell.json" for key in keys.values()]
        cells = [cell_from_dict(_read_json(file)) for file in files]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{folder} holds no assessment that was begun, or it is damaged ({error}); "
            "give the command of the assessment again"
        ) from error
    if other := [cell.name for cell in cells if cell.key != keys.get(cell.name)]:
        raise ValueError(
            f"{folder} was written by another version, which keyed {other[0]} otherwise; read it "
            "with that version, or give the command of the assessment again with --overwrite"
        )
    return cells


def owned_paths(folder: Path) -> Iterator[str]:
    """The files of an assessment that its cells, its rows and their costs name."""
    tables = {*REPORT_TABLES}
    for cell_file in folder.glob("cells/*/cell.json"):
        key = cell_file.parent.name
        if not _KEY.fullmatch(key):
            continue
        yield from (f"cells/{key}/{n}" for n in ("cell.json", FAILURE_FILE, DISTANCES_FILE))
        for file in cell_file.parent.iterdir():
            if _SHARD_FILE.fullmatch(file.name):
                yield f"cells/{key}/{file.name}"
                yield from (name for name in _referenced_files(file) if isinstance(name, str))
        tables.add(f"classes_{key}")
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            tables.add(f"transfer_{_read_json(cell_file).get('group')}")
    yield from page_files(tables)
    figures = folder / FIGURES
    names = [f.name for f in figures.iterdir()] if figures.is_dir() else []
    yield from (f"{FIGURES}/{name}" for name in names if _FIGURE_FILE.fullmatch(name))


def _referenced_files(file: Path) -> Iterator[Any]:
    """The pictures that a row file or a cost file names."""
    if file.suffix == ".cost":
        names = _read_cost(file).get("files")
        yield from names if isinstance(names, list) else ()
    elif file.suffix == ".jsonl" and not describe_file_type(file):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, AttributeError, RecursionError):
                row = json.loads(line)
                yield from (row.get("file"), row.get("original_file"))


ASSESSMENT_FILES = RunFiles(
    (CELLS_FILE, PROBES_FILE, "summary.json", "report.html", "tables/*.*", "figures/*.svg",
     "originals/*/*.png",
     *(f"cells/*/{name}" for name in (
         "cell.json", FAILURE_FILE, DISTANCES_FILE, "*.jsonl", "*.features", "*.cost",
         "images/*.png"))),
    valuable=("cells/*/*.jsonl",), list_owned=owned_paths,
)  # fmt: skip


def read_probes(folder: Path) -> dict[str, Any]:
    """The answers of the classifiers of an assessment."""
    file = folder / PROBES_FILE
    return _read_json(file) if file.exists() else {}


def record_probes(folder: Path, probes: Mapping[str, Any]) -> None:
    """Add probes to probes.json; refuse a classifier whose logits changed."""
    file = folder / PROBES_FILE
    try:
        before = _read_json(file) if file.exists() else {}
        for key, one in probes.items():
            if probes_differ(before.get(key, {}).get("probe"), one["probe"]):
                raise ValueError(
                    f"{folder} holds rows of another {one['name']}: its weights and its code are "
                    "the same, but it answers otherwise; give another --out, or --overwrite to "
                    "start it from scratch"
                )
    except (AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged; give --overwrite to start it from scratch") from error
    write_text(file, json.dumps({**probes, **before}, indent=1) + "\n")


def record_failure(folder: Path, cell: Cell, message: str) -> None:
    """Write failed.txt of a cell."""
    write_text(cell_folder(folder, cell) / FAILURE_FILE, message + "\n")


def read_failure(folder: Path, cell: Cell) -> str:
    """The first line of failed.txt of a cell; "" where it did not fail."""
    file = cell_folder(folder, cell) / FAILURE_FILE
    lines = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
    return lines[0] if lines else ""
