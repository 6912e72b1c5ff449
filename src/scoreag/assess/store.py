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

from scoreag.assess.cells import Cell, from_dict
from scoreag.assess.measure import Measured
from scoreag.files import check_regular, kind_of_file, replace_file, sha256, write_text
from scoreag.runs.probe import differ
from scoreag.runs.rows import NONE, Fields, Row, fault, holds

LIST = "cells.json"  # the keys of an assessment's cells, by their names
PROBES = "probes.json"  # what its classifiers said of two pictures
TABLES = (  # of its report; those of a set or of a cell have its name behind theirs
    "cells", "changes", "randomised", "worst_case", "differences", "generator", "strangers", "cost",
)  # fmt: skip
ROW_FILES = "cells/*/*.jsonl"
FIELDS: Fields = {  # of every row, whatever its cell
    **dict.fromkeys(("image_id", "position", "label"), (int,)),
    "wrong": (int, NONE),
    **dict.fromkeys(("predictions", "judges"), (dict,)),
    **dict.fromkeys(("success", "success_8bit", "as_wanted"), (bool,)),
    "backwards": (int, float),
    **dict.fromkeys(("file", "sha256"), (str,)),
}
OURS = (
    LIST, PROBES, "summary.json", "report.html", "tables/*.*", "cells/*/cell.json",
    "cells/*/failed.txt", "cells/*/likeness.json", "cells/*/*.jsonl", "cells/*/*.features",
    "cells/*/*.cost", "cells/*/images/*.png", "originals/*/*.png",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Kept:
    """What is there of a cell: rows in the order of their positions, features row by row."""

    rows: list[Row]
    features: Tensor | None
    seconds: float
    memory: int
    harmed: list[Path]

    @property
    def positions(self) -> set[int]:
        return {row["position"] for row in self.rows}


def write(folder: Path, cell: Cell, done: Measured) -> None:
    """The cost of some rows, then their pictures and features, then the rows themselves.

    Raises:
        OSError: what is read from the disk is not what was measured, or there is no room.
    """
    place = folder / "cells" / cell.key
    (place / "images").mkdir(parents=True, exist_ok=True)
    begin, end = done.rows[0]["position"], done.rows[-1]["position"] + 1
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in done.rows).encode()
    packed = b"" if done.features is None else save({"features": done.features.contiguous()})
    stem = f"{begin:06d}-{end:06d}-{_digest(text, packed)}"
    cost = {
        "seconds": round(done.seconds + done.other, 4),
        "memory": done.memory,
        "images": len(done.rows),
        "files": sorted(done.files),
    }
    write_text(place / f"{stem}.cost", json.dumps(cost))
    for name, data in done.files.items():
        _write_picture(folder / name, data)
    if packed:
        replace_file(place / f"{stem}.features", lambda aside: aside.write_bytes(packed))
    replace_file(place / f"{stem}.jsonl", lambda aside: aside.write_bytes(text))


def _write_picture(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda aside: aside.write_bytes(data))
    if sha256(path) != hashlib.sha256(data).hexdigest():
        raise OSError(f"{path} does not hold what was written to it")


def _digest(text: bytes, packed: bytes) -> str:
    return hashlib.sha256(text + packed).hexdigest()[:12]


def describe(folder: Path, cell: Cell) -> None:
    """Write down what a cell is, before its first row."""
    file = folder / "cells" / cell.key / "cell.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(cell.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read(folder: Path, cell: Cell, pictures: bool = False) -> Kept:
    """What is there of a cell and is what it was when it was written.

    Args:
        pictures: look at them, too: rows whose pictures are gone or other ones do not count.
    """
    place, harmed = folder / "cells" / cell.key, []
    rows: dict[int, Row] = {}
    features: dict[int, Tensor] = {}
    costs: list[dict[str, Any]] = []
    for file in sorted(place.glob("*.jsonl")):
        found = None if kind_of_file(file) else _shard(file, cell)
        if found is None:
            harmed.append(file)
            continue
        some, packed = found
        if pictures:
            some = [row for row in some if holds(folder, row)]
        rows |= {row["position"]: row for row in some}
        features |= {} if packed is None else dict(packed)
        costs.append(_cost(file))
    order = sorted(rows)
    stacked = torch.stack([features[i] for i in order]) if features and order else None
    return Kept(
        [rows[i] for i in order],
        stacked,
        math.fsum(cost["seconds"] for cost in costs),
        max((cost["memory"] for cost in costs), default=0),
        harmed,
    )


def _shard(file: Path, cell: Cell) -> tuple[list[Row], Iterable[tuple[int, Tensor]] | None] | None:
    """The rows of a file with their features; None where it is not what its name says."""
    side = file.with_suffix(".features")
    text, packed = file.read_bytes(), side.read_bytes() if side.is_file() else b""
    if file.stem.rpartition("-")[2] != _digest(text, packed):
        return None
    try:
        rows = [json.loads(line) for line in text.splitlines()]
        positions = [row["position"] for row in rows]
        features = load(packed)["features"] if packed else None
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError):
        return None
    if (
        any(fault(row, FIELDS) for row in rows)
        or not positions
        or min(positions) < 0
        or max(positions) >= cell.images
    ):
        return None
    return rows, None if features is None else zip(positions, features, strict=True)


def _cost(file: Path) -> dict[str, Any]:
    found = _read_cost(file.with_suffix(".cost"))
    numbers = {name: found.get(name) for name in ("seconds", "memory")}
    if all(isinstance(value, float | int) for value in numbers.values()):
        return numbers
    return {"seconds": 0.0, "memory": 0}


def _read_cost(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        check_regular(file)
        found = json.loads(file.read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def missing(cell: Cell, kept: Kept) -> list[range]:
    """The pieces of a cell that lack a row; a piece is computed whole, so that it rounds alike."""
    there = kept.positions
    return [piece for piece in cell.pieces if not there.issuperset(piece)]


def discard(files: Iterable[Path]) -> None:
    """Delete row files that are not what they were, with what lies beside them."""
    for file in files:
        for suffix in (".jsonl", ".features", ".cost"):
            file.with_suffix(suffix).unlink(missing_ok=True)


def listed(folder: Path) -> list[Cell]:
    """The cells of an assessment, in the order of its plan.

    Raises:
        ValueError: the folder holds none, or its files are damaged.
    """
    try:
        keys = _table(folder / LIST)
        files = [folder / "cells" / _key(key) / "cell.json" for key in keys.values()]
        cells = [from_dict(_table(file)) for file in files]
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


def _table(file: Path) -> dict[str, Any]:
    check_regular(file)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return found


def _key(key: Any) -> str:
    if not re.fullmatch("[0-9a-f]{16}", str(key)):
        raise ValueError(f"{key!r:.60} is no key of a cell")
    return str(key)


def named(folder: Path) -> Iterator[str]:
    """Of the files of an assessment those that its cells, its rows and their costs name."""
    for file in folder.glob("cells/*/cell.json"):
        key = file.parent.name
        if re.fullmatch("[0-9a-f]{16}", key):
            yield from (f"cells/{key}/{name}" for name in ("cell.json", "failed.txt"))
            yield f"cells/{key}/likeness.json"
            yield from _named(folder, key)
            yield from _tables(folder, file)


def _named(folder: Path, key: str) -> Iterator[str]:
    """The row files of a cell with what lies beside them, and the pictures that they name."""
    form = re.compile(r"\d{6,}-\d{6,}-[0-9a-f]{12}\.(jsonl|features|cost)")
    for file in (folder / "cells" / key).iterdir():
        if form.fullmatch(file.name):
            yield f"cells/{key}/{file.name}"
            yield from (name for name in _files(file) if isinstance(name, str))


def _files(file: Path) -> Iterator[Any]:
    if file.suffix == ".cost":
        found = _read_cost(file).get("files")
        yield from found if isinstance(found, list) else ()
    elif file.suffix == ".jsonl" and not kind_of_file(file):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, AttributeError, RecursionError):
                row = json.loads(line)
                yield from (row.get("file"), row.get("original_file"))


def _tables(folder: Path, file: Path) -> Iterator[str]:
    """The tables that the report of an assessment with this cell may have written."""
    names = [*TABLES, f"classes_{file.parent.name}"]
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        names.append(f"transfer_{_table(file).get('group')}")
    yield from (f"tables/{name}.{form}" for name in names for form in ("csv", "json", "md", "tex"))


def keep_probes(folder: Path, probes: Mapping[str, Any] | None) -> None:
    """Note what the classifiers answered, by the digests of their content.

    Raises:
        ValueError: one with the digests that it had answers otherwise.
    """
    file = folder / PROBES
    try:
        before = _table(file) if file.exists() else {}
        for key, one in (probes or {}).items():
            if differ(before.get(key, {}).get("probe"), one["probe"]):
                raise ValueError(
                    f"{folder} holds rows of another {one['name']}: its weights and its code are "
                    "the same, but it answers otherwise; give another --out, or --overwrite to "
                    "start it afresh"
                )
    except (AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged; give --overwrite to start it afresh") from error
    write_text(file, json.dumps({**(probes or {}), **before}, indent=1) + "\n")


def fail(folder: Path, cell: Cell, told: str) -> None:
    """Write down why a cell failed."""
    write_text(folder / "cells" / cell.key / "failed.txt", told + "\n")


def failure(folder: Path, cell: Cell) -> str:
    """Why a cell failed when it was last tried, in a line; "" where it did not."""
    file = folder / "cells" / cell.key / "failed.txt"
    told = file.read_text("utf-8", errors="replace").splitlines() if file.is_file() else []
    return told[0] if told else ""


def recover(folder: Path, cell: Cell) -> None:
    """A cell is tried again: whatever was said of it is forgotten."""
    (folder / "cells" / cell.key / "failed.txt").unlink(missing_ok=True)
