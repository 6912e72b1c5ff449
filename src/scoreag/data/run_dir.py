"""The images that a run of ScoreAG made, with their ids and labels."""

import json
from pathlib import Path
from typing import Any

import torch

from scoreag.data.source import Labels, Pixels, Source
from scoreag.io.filesystem import check_regular_file, file_sha256, resolve_inside
from scoreag.io.images import read_png
from scoreag.io.row_digests import read_seal, read_sealed_rows


def load(run_dir: str) -> Source:
    """The images of the run's folder ``what``, in the order of their ids.

    A run that is not finished is refused, and so is a row or a picture that is not as it wrote it.
    """
    folder = Path(run_dir).expanduser()
    table = folder / "rows.jsonl"
    if not table.is_file():
        raise ValueError(f"{run_dir!r} is no folder of a run: it has no rows.jsonl")
    manifest = _read_manifest(folder)
    rows = sorted(
        _read_rows(resolve_inside(folder, table.name), manifest), key=lambda row: row["image_id"]
    )
    ids = [row["image_id"] for row in rows]
    if not rows or len(set(ids)) < len(ids):
        fault = "an image id twice" if rows else "no rows"
        raise ValueError(f"{table} has {fault}; give the run's command again, with --overwrite")
    _check_finished(folder, len(rows), manifest)
    labels = [row.get("label") for row in rows]
    unlabelled = all(label is None for label in labels)
    if not unlabelled and not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{table} has rows with a label and rows without")

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = torch.stack([read_png(_verify_file(folder, rows[i])) for i in positions])
        return pixels, None if unlabelled else torch.tensor([labels[i] for i in positions])

    files = [str(row["source"]) for row in rows if row.get("source")]
    return Source(len(rows), read, ids, (), files if len(files) == len(rows) else ())


def _read_manifest(folder: Path) -> dict[str, Any]:
    table = folder / "manifest.json"
    check_regular_file(table)
    try:
        found: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
        read_seal(found, folder)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, RecursionError,
            AttributeError) as error:  # fmt: skip
        raise ValueError(f"{table} is missing or no manifest of a run; give a run's folder") from (
            error
        )
    return found


def _check_finished(folder: Path, count: int, manifest: dict[str, Any]) -> None:
    """Refuse a run that lacks some of its images still."""
    finished, wanted, typed = (manifest.get(key) for key in ("finished", "images", "command"))
    if not finished or count != wanted:
        again = f": {typed}" if typed else ""
        raise ValueError(
            f"{folder} is a run that is not finished ({count} of {wanted} images); "
            f"give the run's command again{again}"
        )


def _read_rows(table: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for number, row in read_sealed_rows(table, read_seal(manifest, table.parent)):
        try:
            if row is None:
                raise ValueError("it is not as the run wrote it")
            plain = {"image_id": int(row["image_id"])}
            rows.append(row | plain | {key: str(row[key]) for key in ("file", "sha256")})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{table}, line {number}, is no whole row of an image: give the run's command "
                "again, and it is finished"
            ) from error
    return rows


def _verify_file(folder: Path, row: dict[str, Any]) -> Path:
    """The path of a row's file, which may not lead out of the folder, nor be another by now."""
    path = resolve_inside(folder, row["file"])
    if not path.is_file() or file_sha256(path) != row["sha256"]:
        state = "is not what the run wrote" if path.is_file() else "is not there any more"
        raise ValueError(f"{path} {state}; give the run's command again, and it is made anew")
    return path
