"""A saved run as a ``Result`` again: the inverse of ``Result.save``."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.core.types import Images
from scoreag.io.images import to_float
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row, read_complete_rows, read_picture
from scoreag.io.run_dir import refuse_links
from scoreag.methods.result import ROW_FIELDS, TASK_FILES, Result

TASKS = ("synthesize", "transform", "purify", "attack")


def load_result(folder: str | Path, max_images: int | None = None) -> Result:
    """The result of a finished run of synthesize, transform, purify, or of ``Result.save``.

    Its images are the 8-bit ones of the folder.  It has no probabilities: rows hold those of a few
    classes only.

    Args:
        max_images: only the first ones are read; by default all.

    Raises:
        ValueError: the folder holds no such run, or the run is not finished; says what to do.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.get("task") not in TASKS:
        raise ValueError(
            f"{folder} holds {manifest.get('task')!r}; expected a run of {', '.join(TASKS)}"
        )
    refuse_links(folder, TASK_FILES)
    rows = read_complete_rows(folder, ROW_FIELDS)[:max_images]
    if not rows:
        raise ValueError(f"{folder} has no rows; give the command of the run again")
    return Result(
        task=manifest["task"],
        images=_read_images(folder, rows, ""),
        originals=_read_images(folder, rows, "original_") if "original_file" in rows[0] else None,
        config=manifest.get("config", {}),
        seed=int(manifest.get("seed", 0)),
        classes=tuple(manifest.get("classes", ())),
        **_read_columns(rows, has_targets=manifest["task"] in ("synthesize", "transform")),
        **_read_judge(rows, manifest),
    )


def _read_images(folder: Path, rows: Sequence[Row], prefix: str) -> Images:
    return to_float(torch.stack([read_picture(folder, row, prefix) for row in rows]))


def _read_columns(rows: Sequence[Row], has_targets: bool) -> dict[str, Any]:
    """The measured columns of a result; None where some row has no value."""
    whole = ("image_id", "nfe", "restarts", "guidance_skipped", "label")
    flags = ("success", "success_float", "targeted_success", "found")
    values = {name: _column([row.get(name) for row in rows], torch.int64) for name in whole}
    values |= {name: _column([row.get(name) for row in rows], torch.bool) for name in flags}
    for name in ("attack_scale", "similarity"):
        values[name] = _column([row.get(name) for row in rows], torch.float64)
    for name, form in (("clean_predictions", "before"), ("predictions", "saved")):
        values[name] = _column([row["predictions"][form] for row in rows], torch.int64)
    if has_targets:
        targets = [-1 if row["target"] is None else row["target"] for row in rows]
        values["targets"] = _column(targets, torch.int64)
    if "energy" in rows[0]:  # infinite energies have no number in JSON
        energies = [math.inf if row["energy"] is None else row["energy"] for row in rows]
        values["energy"] = _column(energies, torch.float64)
    renamed = {"image_ids": values.pop("image_id"), "labels": values.pop("label")}
    return {**values, **renamed}


def _column(values: Sequence[Any], dtype: torch.dtype) -> Tensor | None:
    return None if any(value is None for value in values) else torch.tensor(values, dtype=dtype)


def _read_judge(rows: Sequence[Row], manifest: Mapping[str, Any]) -> dict[str, Any]:
    if "judge" not in rows[0]:
        return {}
    return {
        "judge": manifest.get("models", {}).get("judge", {}),
        "judge_predictions": _column([row["judge"]["saved"] for row in rows], torch.int64),
        "judge_clean_predictions": _column([row["judge"]["before"] for row in rows], torch.int64),
    }
