"""The folder of an evaluation: claimed like a run's, kept through failures, never another's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoreag.evaluation import chunk_cache, sample_grids
from scoreag.io import run_dir as place
from scoreag.io.filesystem import write_text
from scoreag.io.manifest import utc_now

TASK = "evaluate model"
OWNED_FILES = ("figures.json", "report.html", *sample_grids.OWNED_FILES, chunk_cache.OWNED_FILES)


def run_in_folder(
    folder: Path,
    manifest: Mapping[str, Any],
    overwrite: bool,
    compute: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """``work`` in ``folder``, which is claimed first; its outcome, written as figures.json.

    Raises:
        ValueError: the folder holds something else, or an evaluation with other settings.
    """
    with place.exclusive_lock(folder):
        _check_task(folder)
        found = place.open_run_dir(folder, manifest, overwrite, OWNED_FILES)
        figures = compute()
        place.write_json(folder / "figures.json", figures)
        if not found.get("finished"):
            place.write_manifest(folder, {**found, "finished": utc_now()})
        return figures


def write_page(folder: Path, html: str) -> None:
    write_text(folder / "report.html", html)


def _check_task(folder: Path) -> None:
    """To overwrite a run would leave its pictures among ours."""
    if not (folder / place.MANIFEST).is_file():
        return
    if (task := place.read_manifest(folder).get("task")) != TASK:
        raise ValueError(
            f"{folder} holds the files of {task!r}, which an evaluation would leave among its own; "
            "give another --out"
        )
