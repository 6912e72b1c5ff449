"""A result that is in memory, as a run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoreag.result import Result
from scoreag.runs import folder as place
from scoreag.runs import rows as lines
from scoreag.runs.manifest import FORMAT, circumstances, now, plain, spans
from scoreag.runs.summary import summary


def save(
    result: Result,
    folder: str | Path,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write pictures, rows, manifest and summary of ``result``; the folder.

    The verdicts are those of the result, which are on 8-bit images; that the pictures read from
    the disk are these images is checked.

    Args:
        about: what else the manifest shall say, e.g. ``models`` and ``data``.

    Raises:
        ValueError: the folder is not empty, or, with ``overwrite``, holds something but a run.
    """
    folder = Path(folder)
    found = {
        "format": FORMAT,
        "task": result.task,
        "settings": plain(result.settings),
        "seed": result.seed,
        "images": len(result),
        "image_ids": spans(result.image_ids.tolist()),
        **plain(dict(about or {})),
        **circumstances(),
    }
    if result.judge:
        found["models"] = {**found.get("models", {}), "judge": plain(result.judge)}
    with place.alone(folder) as fresh, place.withdrawn(folder, fresh):
        if any(folder.iterdir()) and not overwrite:
            raise ValueError(f"{folder} is not empty; give another folder, or overwrite=True")
        found = place.claim(folder, found, overwrite)
        saved, originals = lines.write_all(folder, result)
        rows = lines.rows_of(folder, result, saved, originals, result.seed, None)
        lines.replace(folder, rows)
        place.write_json(folder / "summary.json", summary(result.task, rows, found))
        place.write(folder, {**found, "finished": now()})
    return folder
