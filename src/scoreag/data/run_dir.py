"""The images that a run of ScoreAG made, with their ids and labels."""

from pathlib import Path

import torch

from scoreag.data.source import Labels, Pixels, Source
from scoreag.io.manifest import read_manifest, read_seal
from scoreag.io.records import read_complete_rows, read_picture
from scoreag.io.run_dir import ROWS


def load(run_dir: str) -> Source:
    """The images of the run's folder ``run_dir``, in the order of their ids.

    A run that is not finished is refused, and so is a row or a picture that is not as it wrote it.
    """
    folder = Path(run_dir).expanduser()
    if not (folder / ROWS).is_file():
        raise ValueError(f"{run_dir!r} is no folder of a run: it has no {ROWS}")
    _check_finished(folder)
    rows = sorted(read_complete_rows(folder), key=lambda row: row["image_id"])
    if not rows:
        raise ValueError(f"{folder / ROWS} has no rows; give the run's command again")
    labels = [row.get("label") for row in rows]
    is_unlabelled = all(label is None for label in labels)
    if not is_unlabelled and not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{folder / ROWS} has rows with a label and rows without")

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = torch.stack([read_picture(folder, rows[i]) for i in positions])
        return pixels, None if is_unlabelled else torch.tensor([labels[i] for i in positions])

    files = [str(row["source"]) for row in rows if row.get("source")]
    ids = [row["image_id"] for row in rows]
    return Source(len(rows), read, ids, (), files if len(files) == len(rows) else ())


def _check_finished(folder: Path) -> None:
    """Refuse a run that still lacks some of its images."""
    manifest = read_manifest(folder)
    read_seal(manifest, folder)
    finished, expected, command = (manifest.get(key) for key in ("finished", "images", "command"))
    count = len((folder / ROWS).read_bytes().splitlines())
    if not finished or count != expected:
        raise ValueError(
            f"{folder} is a run that is not finished ({count} of {expected} images); "
            f"give the run's command again{f': {command}' if command else ''}"
        )
