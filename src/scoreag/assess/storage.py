"""Rows on disk: a file a shard, whole or absent, whose name says what must be in it.

    cells.json                               the keys by the names of the cells
    cells/KEY/cell.json                      what the cell is
    cells/KEY/000000-000064-DIGEST.jsonl     rows of the positions 0 to 63, and their sha256
    cells/KEY/000000-000064-DIGEST.features  their features, written before, with the digest of both
    cells/KEY/000000-000064-DIGEST.cost      written first: seconds and memory, which differ from
                                             time to time, and the pictures that were written
    cells/KEY/images/000123.png              originals/DATA/000123.png

A file that is not what its name says is deleted, and its images are done again.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from scoreag.assess.experiments import Cell, cell_from_dict
from scoreag.assess.run_attack import ScoredBatch
from scoreag.io.filesystem import (
    atomic_write,
    check_regular_file,
    describe_file_type,
    file_sha256,
    write_text,
)
from scoreag.io.manifest import probes_differ
from scoreag.io.records import NONE_TYPE, Fields, Row, files_intact, row_error
from scoreag.io.run_dir import RunFiles

CELLS_FILE, PROBES_FILE = "cells.json", "probes.json"
FAILURE_FILE, DISTANCES_FILE = "failed.txt", "distances.json"
REPORT_TABLES = (  # of its report; those of a dataset or of a cell have its name behind theirs
    "cells", "worst_case", "randomized", "differences", "perturbation_size", "generator", "ood",
    "cost",
)  # fmt: skip
ROW_FIELDS: Fields = {  # of every row, whatever its cell
    **dict.fromkeys(("image_id", "position", "label"), (int,)),
    "target": (int, NONE_TYPE),
    **dict.fromkeys(("predictions", "judges"), (dict,)),
    **dict.fromkeys(("success_float", "success", "targeted_success"), (bool,)),
    "backwards": (int, float),
    **dict.fromkeys(("file", "sha256"), (str,)),
}
_KEY = re.compile(r"[0-9a-f]{16}")
_SHARD_FILE = re.compile(r"\d{6,}-\d{6,}-[0-9a-f]{12}\.(jsonl|features|cost)")


@dataclass(frozen=True, eq=False)
class StoredCell:
    """What is there of a cell: rows in the order of their positions, features row by row."""

    rows: list[Row]
    features: Tensor | None
    seconds: float
    memory_bytes: int
    corrupt: list[Path]


def cell_folder(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / cell.key


def write_shard(folder: Path, cell: Cell, scored: ScoredBatch) -> None:
    """The cost of some rows, then their pictures and features, then the rows themselves.

    Raises:
        OSError: what is read from the disk is not what was written, or there is no room.
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


def write_cell(folder: Path, cell: Cell) -> None:
    """Write down what a cell is, before its first row."""
    file = cell_folder(folder, cell) / "cell.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(cell.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read_cell(folder: Path, cell: Cell, check_pictures: bool = False) -> StoredCell:
    """What is there of a cell and is what it was when it was written.

    Args:
        check_pictures: rows whose pictures are gone or other ones do not count.
    """
    corrupt: list[Path] = []
    rows: dict[int, Row] = {}
    features: dict[int, Tensor] = {}
    costs: list[dict[str, Any]] = []
    for file in sorted(cell_folder(folder, cell).glob("*.jsonl")):
        shard = None if describe_file_type(file) else _read_shard(file, cell)
        if shard is None:
            corrupt.append(file)
            continue
        some, some_features = shard
        rows |= {
            row["position"]: row for row in some if not check_pictures or files_intact(folder, row)
        }
        features |= some_features
        costs.append(_shard_cost(file))
    order = sorted(rows)
    return StoredCell(
        [rows[i] for i in order],
        torch.stack([features[i] for i in order]) if features and order else None,
        math.fsum(cost["seconds"] for cost in costs),
        max((cost["memory"] for cost in costs), default=0),
        corrupt,
    )


def _read_shard(file: Path, cell: Cell) -> tuple[list[Row], dict[int, Tensor]] | None:
    """The rows of a file and their features; None where it is not what its name says."""
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


def _shard_cost(file: Path) -> dict[str, Any]:
    cost = _read_cost(file.with_suffix(".cost"))
    numbers = {name: cost.get(name) for name in ("seconds", "memory")}
    plain = all(isinstance(value, float | int) for value in numbers.values())
    return numbers if plain else {"seconds": 0.0, "memory": 0}


def _read_cost(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        cost = _read_json(file)
        return cost if isinstance(cost, dict) else {}
    return {}


def pending_batches(cell: Cell, stored: StoredCell) -> list[range]:
    """The batches of a cell that lack a row; each is computed whole, so that it rounds alike."""
    positions = {row["position"] for row in stored.rows}
    return [batch for batch in cell.batches if not positions.issuperset(batch)]


def delete_shards(files: Iterable[Path]) -> None:
    """Delete row files that are not what they were, with what lies beside them."""
    for file in files:
        for suffix in (".jsonl", ".features", ".cost"):
            file.with_suffix(suffix).unlink(missing_ok=True)


def list_cells(folder: Path) -> list[Cell]:
    """The cells of an assessment, in the order of its plan.

    Raises:
        ValueError: the folder holds none, or its files are damaged.
    """
    try:
        keys = _read_json(folder / CELLS_FILE)
        cells = [
            cell_from_dict(_read_json(folder / "cells" / _validate_key(key) / "cell.json"))
            for key in keys.values()
        ]
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


def _read_json(file: Path) -> dict[str, Any]:
    check_regular_file(file)
    table: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return table


def _validate_key(key: Any) -> str:
    if not _KEY.fullmatch(str(key)):
        raise ValueError(f"{key!r:.60} is no key of a cell")
    return str(key)


def owned_paths(folder: Path) -> Iterator[str]:
    """The files of an assessment that its cells, its rows and their costs name."""
    for file in folder.glob("cells/*/cell.json"):
        key = file.parent.name
        if _KEY.fullmatch(key):
            for name in ("cell.json", FAILURE_FILE, DISTANCES_FILE):
                yield f"cells/{key}/{name}"
            yield from _shard_paths(folder, key)
            yield from _table_paths(file)


def _shard_paths(folder: Path, key: str) -> Iterator[str]:
    """The row files of a cell with what lies beside them, and the pictures that they name."""
    for file in (folder / "cells" / key).iterdir():
        if _SHARD_FILE.fullmatch(file.name):
            yield f"cells/{key}/{file.name}"
            yield from (name for name in _referenced_files(file) if isinstance(name, str))


def _referenced_files(file: Path) -> Iterator[Any]:
    if file.suffix == ".cost":
        names = _read_cost(file).get("files")
        yield from names if isinstance(names, list) else ()
    elif file.suffix == ".jsonl" and not describe_file_type(file):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, AttributeError, RecursionError):
                row = json.loads(line)
                yield from (row.get("file"), row.get("original_file"))


def _table_paths(cell_file: Path) -> Iterator[str]:
    """The tables that the report of an assessment with this cell may have written."""
    names = [*REPORT_TABLES, f"classes_{cell_file.parent.name}"]
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        names.append(f"transfer_{_read_json(cell_file).get('group')}")
    yield from (f"tables/{name}.{form}" for name in names for form in ("csv", "json", "md", "tex"))


ASSESSMENT_FILES = RunFiles(
    (CELLS_FILE, PROBES_FILE, "summary.json", "report.html", "tables/*.*", "originals/*/*.png",
     *(f"cells/*/{name}" for name in (
         "cell.json", FAILURE_FILE, DISTANCES_FILE, "*.jsonl", "*.features", "*.cost",
         "images/*.png"))),
    valuable=("cells/*/*.jsonl",), list_owned=owned_paths,
)  # fmt: skip


def record_probes(folder: Path, probes: Mapping[str, Any] | None) -> None:
    """Note the logits of the classifiers at a probe, by the digests of their content.

    Raises:
        ValueError: one with the digests that it had predicts otherwise.
    """
    file = folder / PROBES_FILE
    try:
        before = _read_json(file) if file.exists() else {}
        for key, one in (probes or {}).items():
            if probes_differ(before.get(key, {}).get("probe"), one["probe"]):
                raise ValueError(
                    f"{folder} holds rows of another {one['name']}: its weights and its code are "
                    "the same, but it answers otherwise; give another --out, or --overwrite to "
                    "start it afresh"
                )
    except (AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged; give --overwrite to start it afresh") from error
    write_text(file, json.dumps({**(probes or {}), **before}, indent=1) + "\n")


def record_failure(folder: Path, cell: Cell, message: str) -> None:
    """Write down why a cell failed."""
    write_text(cell_folder(folder, cell) / FAILURE_FILE, message + "\n")


def read_failure(folder: Path, cell: Cell) -> str:
    """Why a cell failed when it was last tried, in a line; "" where it did not."""
    file = cell_folder(folder, cell) / FAILURE_FILE
    lines = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
    return lines[0] if lines else ""


def clear_failure(folder: Path, cell: Cell) -> None:
    """A cell is tried again: what was said of it is deleted."""
    (cell_folder(folder, cell) / FAILURE_FILE).unlink(missing_ok=True)
