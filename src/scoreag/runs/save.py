"""A result that is in memory, as a run's folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoreag.methods.result import Result
from scoreag.runs import records as lines
from scoreag.runs import run_dir as place
from scoreag.runs.manifest import FORMAT, describe_environment, format_spans, to_jsonable, utc_now
from scoreag.runs.summary import summarize_rows


def save_result(
    result: Result,
    folder: str | Path,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write pictures, rows, manifest and summary of ``result``; the folder.

    The verdicts are those of the result, which are on 8-bit images; that the pictures read from
    the disk are these images is checked.

    Args:
        provenance: what else the manifest shall say, e.g. ``models`` and ``data``.

    Raises:
        ValueError: the folder is not empty, or, with ``overwrite``, holds something but a run.
    """
    folder = Path(folder)
    found = {
        "format": FORMAT,
        "task": result.task,
        "config": to_jsonable(result.config),
        "seed": result.seed,
        "images": len(result),
        "image_ids": format_spans(result.image_ids.tolist()),
        **to_jsonable(dict(provenance or {})),
        **describe_environment(),
    }
    if result.judge:
        found["models"] = {**found.get("models", {}), "judge": to_jsonable(result.judge)}
    with place.exclusive_lock(folder) as fresh, place.cleanup_on_error(folder, fresh):
        if any(folder.iterdir()) and not overwrite:
            raise ValueError(f"{folder} is not empty; give another folder, or overwrite=True")
        found = place.open_run_dir(folder, found, overwrite)
        saved, originals = lines.write_result_pictures(folder, result)
        rows = lines.build_rows(folder, result, saved, originals, result.seed, None)
        lines.replace_rows(folder, rows)
        place.write_json(folder / "summary.json", summarize_rows(result.task, rows, found))
        place.write_manifest(folder, {**found, "finished": utc_now()})
    return folder
