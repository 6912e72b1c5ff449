"""Rows on disk, a line an image, each written after the pictures that it speaks of."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.io.filesystem import atomic_write, file_sha256, resolve_inside
from scoreag.io.images import decode_png, read_png, to_float, to_uint8, write_png
from scoreag.io.row_digests import Row, seal_row
from scoreag.io.row_digests import read_sealed_rows as lines_of
from scoreag.methods.result import Result
from scoreag.methods.task import escalate_attack_scale
from scoreag.metrics.norms import compute_norms
from scoreag.runs import run_dir as place
from scoreag.runs.run_dir import ROWS
from scoreag.runs.run_dir import picture_path as name_of

__all__ = ["ROWS", "Row", "name_of"]

Pixels: TypeAlias = UInt8[Tensor, "batch channels height width"]
Fields: TypeAlias = Mapping[str, tuple[type, ...]]  # of a row: the types that each may have

NONE_TYPE = type(None)
ROW_FIELDS: Fields = {  # what every row of a run of a task has
    "image_id": (int,),
    "label": (int, NONE_TYPE),
    "target": (int, NONE_TYPE),
    "predictions": (dict,),
    **dict.fromkeys(("success_float", "success", "targeted_success"), (bool, NONE_TYPE)),
    **dict.fromkeys(("restarts", "guidance_skipped", "nfe"), (int,)),
    **dict.fromkeys(("file", "sha256"), (str,)),
}


OPTIONAL_FIELDS: Fields = {
    **dict.fromkeys(("original_file", "original_sha256", "source"), (str,)),
    **dict.fromkeys(("distances", "judge"), (dict,)),
}  # fmt: skip


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


def write_result_pictures(folder: Path, result: Result) -> tuple[Pixels, Pixels | None]:
    """The pictures of a result and, where there are any, their originals, read from the disk."""
    ids = result.image_ids.tolist()
    saved = write_pictures(folder, "images", result.images, ids)
    if result.originals is None:
        return saved, None
    return saved, write_pictures(folder, "originals", result.originals, ids)


def build_rows(
    folder: Path,
    result: Result,
    saved: Pixels,
    originals: Pixels | None,
    seed: int | None,
    target_source: str | None,
    float_predictions: Labels | None = None,
    sources: Mapping[int, str] | None = None,
) -> list[Row]:
    """A row for each image of ``result``, whose pictures lie in ``folder`` already.

    Args:
        saved, originals: those pictures, as they were read from there.
        target_source: who chose the target: given, runner_up, random or untargeted.
        float_predictions: what the classifier says of the images before they were rounded to 8 bits.
        sources: by image id, the file that an image was read from.
    """
    moved = {} if originals is None else _distances(originals, saved)
    rows = []
    for i, image_id in enumerate(result.image_ids.tolist()):
        row = _build_row(result, i, seed, target_source, float_predictions)
        if result.judge_predictions is not None:
            seen = {
                "before": _item(result.judge_clean_predictions, i),
                "saved": int(result.judge_predictions[i]),
            }
            row["judge"] = seen
        if moved:
            row["distances"] = {norm: round(float(d[i]), 6) for norm, d in moved.items()}
        if sources and image_id in sources:
            row["source"] = sources[image_id]
        rows.append(row | _file_entries(folder, image_id, originals is not None))
    return rows


def _build_row(
    result: Result,
    i: int,
    seed: int | None,
    target_source: str | None,
    float_predictions: Labels | None,
) -> Row:
    wrong = _item(result.targets, i)
    retries = int(result.restarts[i])
    strength = result.config.get("attack_scale")
    return {
        "image_id": int(result.image_ids[i]),
        "label": _item(result.labels, i),
        "target": None if wrong == -1 else wrong,
        "target_source": target_source,
        "predictions": {
            "before": _item(result.clean_predictions, i),
            "float": _item(float_predictions, i),
            "saved": _item(result.predictions, i),
        },
        "success_float": _item(result.success_float, i),
        "success": _item(result.success, i),
        "targeted_success": _item(result.targeted_success, i),
        "restarts": retries,
        "guidance_skipped": int(result.guidance_skipped[i]),
        "attack_scale": None if strength is None else escalate_attack_scale(strength, retries),
        "seed": seed,
        "nfe": int(result.nfe[i]),
    }


def _file_entries(folder: Path, image_id: int, with_original: bool) -> Row:
    found = {"": "images"} | ({"original_": "originals"} if with_original else {})
    named = {prefix: name_of(kind, image_id) for prefix, kind in found.items()}
    files = {f"{prefix}file": file for prefix, file in named.items()}
    return files | {f"{prefix}sha256": file_sha256(folder / file) for prefix, file in named.items()}


def _distances(originals: Pixels, saved: Pixels) -> dict[str, Tensor]:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    return compute_norms(to_float(originals, torch.float64), to_float(saved, torch.float64))


def _item(values: Tensor | None, i: int) -> Any:
    return None if values is None else values[i].item()


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Add whole lines and wait until they are on the disk; on a failure none of them is there."""
    left = memoryview(_encode_rows(folder, rows))
    with (folder / ROWS).open("ab", buffering=0) as file:  # a buffer would try again when closed
        before = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(folder / ROWS, before)
            raise OSError(error.errno, error.strerror, str(folder / ROWS)) from error


def replace_rows(folder: Path, rows: Iterable[Row]) -> None:
    """The whole file anew, unless it says the same already."""
    file, text = folder / ROWS, _encode_rows(folder, rows)
    if not file.exists() or file.read_bytes() != text:
        atomic_write(file, lambda aside: aside.write_bytes(text))


def read_rows(folder: Path, fields: Fields = ROW_FIELDS) -> list[Row]:
    """The rows that are as they were written, by a run that had just this manifest.

    Raises:
        ValueError: an earlier version wrote them, or the manifest was changed.
    """
    return [row for _, row in _iter_rows(folder) if row is not None and not row_error(row, fields)]


def read_complete_rows(folder: Path, fields: Fields = ROW_FIELDS) -> list[Row]:
    """All rows of a finished run, each of which is as it was written.

    Raises:
        ValueError: one is not, or they are too few; says which, and what to do.
    """
    file, again = folder / ROWS, "give the command of the run again, and it is made anew"
    found: dict[Any, Row] = {}
    for number, row in _iter_rows(folder):
        wrong = "it is not as the run wrote it" if row is None else row_error(row, fields)
        if row is None or wrong or row["image_id"] in found:
            wrong = wrong or f"image {row['image_id'] if row else ''} is there twice"
            raise ValueError(f"{file}, line {number}: {wrong}; {again}")
        found[row["image_id"]] = row
    wanted = place.read_manifest(folder).get("images", len(found))
    if len(found) != wanted:
        raise ValueError(f"{file} has {len(found)} rows of {wanted}; {again}")
    return [*found.values()]


def files_intact(folder: Path, row: Row) -> bool:
    """Whether the pictures of a row are there, and are those that it was written for."""
    try:
        files = [(resolve_inside(folder, row[f"{prefix}file"]), row.get(f"{prefix}sha256"))
                 for prefix in _prefixes(row)]  # fmt: skip
    except ValueError:
        return False
    return all(file.is_file() and file_sha256(file) == digest for file, digest in files)


def read_picture(
    folder: Path, row: Row, prefix: str = ""
) -> UInt8[Tensor, "channels height width"]:
    """The picture of a row, or its ``original_``.

    Raises:
        ValueError: it is outside the folder, or not what the run wrote.
    """
    file = resolve_inside(folder, row[f"{prefix}file"])
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != row.get(f"{prefix}sha256"):
        raise ValueError(
            f"{file} is not what the run wrote; give the command of the run again, and it is made "
            "anew"
        )
    return decode_png(data)


def _prefixes(row: Row) -> list[str]:
    return [prefix for prefix in ("", "original_") if f"{prefix}file" in row]


def _encode_rows(folder: Path, rows: Iterable[Row]) -> bytes:
    seal = place.verify_seal(folder, place.read_manifest(folder))
    return b"".join(seal_row(row, seal) for row in rows)


def _iter_rows(folder: Path) -> Iterator[tuple[int, Row | None]]:
    seal = place.verify_seal(folder, place.read_manifest(folder))
    return lines_of(folder / ROWS, seal) if (folder / ROWS).exists() else iter(())


def row_error(row: Row, fields: Fields) -> str:
    """What a row has that no row of its kind has, or lacks; "" where nothing."""
    there = {name: kinds for name, kinds in OPTIONAL_FIELDS.items() if name in row}
    for name, kinds in {**fields, **there}.items():
        value = row.get(name)
        told = isinstance(value, bool) and bool not in kinds  # True is an int, too
        if name not in row or told or not isinstance(value, kinds):
            came = f"{value!r:.60}" if name in row else "missing"
            return f"{name} is {came}; expected {' or '.join(kind.__name__ for kind in kinds)}"
    return ""
