"""The images that a run of ScoreAG made, with their ids and labels."""

import json
from pathlib import Path
from typing import Any

import torch

from scoreag.datasets import Labels, Pixels, Source
from scoreag.images import read_png


def load(what: str) -> Source:
    """The images of the run's folder ``what``, in the order of their ids."""
    folder = Path(what).expanduser()
    table = folder / "rows.jsonl"
    if not table.is_file():
        raise ValueError(f"{what!r} is no folder of a run: it has no rows.jsonl")
    rows = sorted(_rows(table), key=lambda row: row["image_id"])
    ids = [row["image_id"] for row in rows]
    if not rows or len(set(ids)) < len(ids):
        fault = "an image id twice" if rows else "no rows"
        raise ValueError(f"{table} has {fault}; give the run's command again, with --overwrite")
    labels = [row.get("label") for row in rows]
    unlabelled = all(label is None for label in labels)
    if not unlabelled and not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{table} has rows with a label and rows without")

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = torch.stack([read_png(_inside(folder, rows[i]["file"])) for i in positions])
        return pixels, None if unlabelled else torch.tensor([labels[i] for i in positions])

    return Source(len(rows), read, ids)


def _rows(table: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append(row | {"image_id": int(row["image_id"]), "file": str(row["file"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{table}, line {number}, is no whole row of an image: give the run's command "
                "again, and it is finished"
            ) from error
    return rows


def _inside(folder: Path, file: str) -> Path:
    """The path of a row's file, which may not lead out of the run's folder."""
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / 'rows.jsonl'} names {file!r}, which is outside its folder")
    return path
