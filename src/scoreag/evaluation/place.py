"""The folder of an evaluation: claimed like a run's, kept through failures, never another's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoreag.evaluation import pictures, shards
from scoreag.files import write_text
from scoreag.runs import folder as place
from scoreag.runs.manifest import now

TASK = "evaluate model"
OURS = ("figures.json", "report.html", *pictures.OURS, shards.OURS)


def within(
    folder: Path, manifest: Mapping[str, Any], overwrite: bool, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """``work`` in ``folder``, which is claimed first; its outcome, written as figures.json.

    Raises:
        ValueError: the folder holds something else, or an evaluation with other settings.
    """
    with place.alone(folder):
        _check_task(folder)
        found = place.claim(folder, manifest, overwrite, OURS)
        figures = work()
        place.write_json(folder / "figures.json", figures)
        if not found.get("finished"):
            place.write(folder, {**found, "finished": now()})
        return figures


def write_page(folder: Path, html: str) -> None:
    write_text(folder / "report.html", html)


def _check_task(folder: Path) -> None:
    """To overwrite a run would leave its pictures among ours."""
    if not (folder / place.MANIFEST).is_file():
        return
    if (task := place.read(folder).get("task")) != TASK:
        raise ValueError(
            f"{folder} holds the files of {task!r}, which an evaluation would leave among its own; "
            "give another --out"
        )
