"""Rows on disk, a line an image, each written after the pictures that it speaks of."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.files import replace_file, sha256
from scoreag.images import read_png, to_float, to_uint8, write_png
from scoreag.metrics.distances import distances
from scoreag.result import Result

Row: TypeAlias = dict[str, Any]
Pixels: TypeAlias = UInt8[Tensor, "batch channels height width"]

ROWS = "rows.jsonl"
PICTURED = frozenset({"image_id", "file", "sha256"})  # what every row of a run of a task has


def write_pictures(folder: Path, kind: str, images: Tensor, image_ids: Sequence[int]) -> Pixels:
    """Save images as ``kind``/000123.png; what is read from the disk again.

    Raises:
        OSError: what is read is not what was written.
    """
    (folder / kind).mkdir(exist_ok=True)
    pixels = to_uint8(images).cpu()
    for picture, image_id in zip(pixels, image_ids, strict=True):
        write_png(folder / name_of(kind, image_id), picture)
    saved = torch.stack([read_png(folder / name_of(kind, i)) for i in image_ids])
    if not torch.equal(saved, pixels):
        bad = [i for i, a, b in zip(image_ids, saved, pixels, strict=True) if not torch.equal(a, b)]
        raise OSError(f"{folder / name_of(kind, bad[0])} does not hold what was written to it")
    return saved


def write_all(folder: Path, result: Result) -> tuple[Pixels, Pixels | None]:
    """The pictures of a result and, where there are any, their originals, read from the disk."""
    ids = result.image_ids.tolist()
    saved = write_pictures(folder, "images", result.images, ids)
    if result.originals is None:
        return saved, None
    return saved, write_pictures(folder, "originals", result.originals, ids)


def name_of(kind: str, image_id: int) -> str:
    """The file of an image, relative to the run's folder."""
    return f"{kind}/{image_id:06d}.png"


def rows_of(
    folder: Path,
    result: Result,
    saved: Pixels,
    originals: Pixels | None,
    seed: int | None,
    wrong_from: str | None,
    as_float: Labels | None = None,
    sources: Mapping[int, str] | None = None,
) -> list[Row]:
    """A row for each image of ``result``, whose pictures lie in ``folder`` already.

    Args:
        saved, originals: those pictures, as they were read from there.
        wrong_from: who chose the wrong class: given, second, random or untargeted.
        as_float: what the classifier says of the images before they were rounded to 8 bits.
        sources: by image id, the file that an image was read from.
    """
    moved = {} if originals is None else _distances(originals, saved)
    rows = []
    for i, image_id in enumerate(result.image_ids.tolist()):
        row = _row(result, i, seed, wrong_from, as_float)
        if result.judge_predictions is not None:
            seen = {
                "before": _at(result.judge_before, i),
                "saved": int(result.judge_predictions[i]),
            }
            row["judge"] = seen
        if moved:
            row["distances"] = {norm: round(float(d[i]), 6) for norm, d in moved.items()}
        if sources and image_id in sources:
            row["source"] = sources[image_id]
        rows.append(row | _files(folder, image_id, originals is not None))
    return rows


def _row(
    result: Result, i: int, seed: int | None, wrong_from: str | None, as_float: Labels | None
) -> Row:
    wrong = _at(result.wrong, i)
    retries = int(result.retries[i])
    strength = result.settings.get("strength")
    return {
        "image_id": int(result.image_ids[i]),
        "label": _at(result.labels, i),
        "wrong": None if wrong == -1 else wrong,
        "wrong_from": wrong_from,
        "predictions": {
            "before": _at(result.before, i),
            "float": _at(as_float, i),
            "saved": _at(result.predictions, i),
        },
        "success": _at(result.success, i),
        "success_8bit": _at(result.success_8bit, i),
        "as_wanted": _at(result.as_wanted, i),
        "retries": retries,
        "rests": int(result.rests[i]),
        "strength": None if strength is None else strength * 2**retries,
        "seed": seed,
        "calls": int(result.calls[i]),
    }


def _files(folder: Path, image_id: int, with_original: bool) -> Row:
    found = {"": "images"} | ({"original_": "originals"} if with_original else {})
    named = {prefix: name_of(kind, image_id) for prefix, kind in found.items()}
    files = {f"{prefix}file": file for prefix, file in named.items()}
    return files | {f"{prefix}sha256": sha256(folder / file) for prefix, file in named.items()}


def _distances(originals: Pixels, saved: Pixels) -> dict[str, Tensor]:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    return distances(to_float(originals, torch.float64), to_float(saved, torch.float64))


def _at(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].item()


def append(folder: Path, rows: Iterable[Row]) -> None:
    """Add whole lines and wait until they are on the disk; on a failure none of them is there."""
    left = memoryview(_text(rows))
    with (folder / ROWS).open("ab", buffering=0) as file:  # a buffer would try again when closed
        before = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(folder / ROWS, before)
            raise OSError(error.errno, error.strerror, str(folder / ROWS)) from error


def replace(folder: Path, rows: Iterable[Row]) -> None:
    """The whole file anew, unless it says the same already."""
    file, text = folder / ROWS, _text(rows)
    if not file.exists() or file.read_bytes() != text:
        replace_file(file, lambda aside: aside.write_bytes(text))


def read(folder: Path, needs: Set[str] = PICTURED) -> list[Row]:
    """The rows that have what ``needs`` names, without a line that was not written to its end."""
    file = folder / ROWS
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    found = (_parsed(line, needs) for line in lines if line.endswith(b"\n"))
    return [row for row in found if row is not None]


def holds(folder: Path, row: Row) -> bool:
    """Whether the pictures of a row are there, and are those that it was written for."""
    return all(
        (folder / row[f"{prefix}file"]).is_file()
        and sha256(folder / row[f"{prefix}file"]) == row[f"{prefix}sha256"]
        for prefix in ("", "original_")
        if f"{prefix}file" in row
    )


def _text(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _parsed(line: bytes, needs: Set[str]) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and needs <= row.keys() else None
