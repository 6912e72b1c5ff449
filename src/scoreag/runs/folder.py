"""A run's folder: whose it is, whether it may be continued, and what may be deleted in it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scoreag.files import write_text
from scoreag.runs.manifest import FORMAT, changes

MANIFEST = "manifest.json"
OURS = ("rows.jsonl", "summary.json", "report.html", "images/*.png", "originals/*.png")


def claim(
    folder: Path, manifest: Mapping[str, Any], overwrite: bool = False, ours: tuple[str, ...] = OURS
) -> dict[str, Any]:
    """Make ``folder`` the place of the run that ``manifest`` describes; the manifest kept there.

    A folder that holds the same run is left as it is, so that the run can go on.

    Args:
        overwrite: start afresh, whatever run was there; files that no run wrote are never touched.
        ours: patterns of the files that a run of this kind writes, beside its manifest.

    Raises:
        ValueError: the folder holds something else, or a run with other settings.
    """
    made = _made(folder)
    try:
        there = _there(folder)
        if there is not None and not overwrite:
            _check_same(folder, there, manifest)
            return there
        if there is not None:
            clear(folder, ours)
        write(folder, manifest)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise
    return dict(manifest)


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder.

    Raises:
        ValueError: there is none, so this is not a run's folder and is left alone.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no run: there is no {MANIFEST} in it; give a run's folder"
        )
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = found["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no manifest of a run") from error
    if form != FORMAT:
        raise ValueError(
            f"{file} has format {form}, and this version writes {FORMAT}; give another --out"
        )
    return found


def _there(folder: Path) -> dict[str, Any] | None:
    """The manifest of the run in a folder; None where the folder is empty."""
    if not any(folder.iterdir()):
        return None
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} is not empty and holds no run (there is no {MANIFEST}), so it is left "
            "alone; give another --out"
        )
    return read(folder)


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The manifest, whole or not at all."""
    write_json(folder / MANIFEST, manifest)


def write_json(file: Path, table: Mapping[str, Any]) -> None:
    """A table as indented JSON."""
    write_text(file, json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def clear(folder: Path, ours: tuple[str, ...] = OURS) -> None:
    """Delete what a run wrote, all but its manifest: stopped here, it is still a run."""
    for pattern in ours:
        for path in sorted(folder.glob(pattern)):
            path.unlink()
    for name in {pattern.split("/")[0] for pattern in ours if "/" in pattern}:
        with suppress(OSError):  # it is not there, or holds something that is not ours
            (folder / name).rmdir()


@contextmanager
def withdrawn(folder: Path, fresh: bool) -> Iterator[None]:
    """Remove a ``fresh`` folder in which what was asked turns out to be a mistake at once."""
    try:
        yield
    except ValueError:
        rows = folder / "rows.jsonl"
        if fresh and not (rows.exists() and rows.stat().st_size):
            clear(folder)
            (folder / MANIFEST).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Refuse a second process in ``folder``; the system lets go when this one ends, however."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ValueError(f"another process is writing to {folder}; wait for it to end") from error
    finally:
        os.close(place)


def _made(folder: Path) -> list[Path]:
    """Make ``folder``; those that were made for it, the innermost first."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out takes a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _check_same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    found = changes(old, new)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValueError(
            f"{folder} holds a run with other settings: {found[0]}{more}; "
            "give another --out, or --overwrite to start it afresh"
        )
