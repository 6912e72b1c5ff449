"""A run's folder: whose it is, whether it may be continued, and what may be deleted in it."""

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scoreag.core.algorithm import UNMARKED
from scoreag.files import asides, write_text
from scoreag.runs.manifest import FORMAT, changes, other_versions

MANIFEST = "manifest.json"
OURS = ("rows.jsonl", "summary.json", "report.html", "images/*.png", "originals/*.png")


def claim(
    folder: Path, manifest: Mapping[str, Any], overwrite: bool = False, ours: tuple[str, ...] = OURS
) -> dict[str, Any]:
    """Make ``folder`` the place of the run that ``manifest`` describes; the manifest kept there.

    A folder that holds the same run is left as it is, so that the run can go on.  Call it within
    ``alone``: it deletes what killed writes left, and, to overwrite, what the run wrote.

    Args:
        overwrite: start afresh, whatever run was there; files that no run wrote are never touched.
        ours: patterns of the files that a run of this kind writes, beside its manifest.

    Raises:
        ValueError: the folder holds something else, a run with other settings, or, whatever
            ``overwrite`` says, a training in place of a run or the other way round.
    """
    made = _made(folder)
    try:
        there = _there(folder, ours)
        if there is not None:
            _check_kind(folder, there, manifest)
        if there is not None and not overwrite:
            _check_same(folder, there, manifest)
            _warn_of_versions(folder, there, manifest)
        sweep(folder, ours)
        if there is not None and not overwrite:
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


def _there(folder: Path, ours: tuple[str, ...]) -> dict[str, Any] | None:
    """The manifest of the run in a folder; None where it is empty but for killed writes."""
    if {*folder.iterdir()} <= {*_leftovers(folder, ours)}:
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


def sweep(folder: Path, ours: tuple[str, ...] = OURS) -> None:
    """Delete what killed writes of our own files left behind."""
    for path in _leftovers(folder, ours):
        path.unlink()


def _leftovers(folder: Path, ours: tuple[str, ...]) -> list[Path]:
    return [path for pattern in (MANIFEST, *ours) for path in asides(folder, pattern)]


def clear(folder: Path, ours: tuple[str, ...] = OURS) -> None:
    """Delete what a run wrote, all but its manifest: stopped here, it is still a run."""
    emptied = {folder / pattern.split("/")[0] for pattern in ours if "/" in pattern}
    for pattern in ours:
        for path in sorted(folder.glob(pattern)):
            path.unlink()
            emptied.update(above for above in path.parents if folder in above.parents)
    for place in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it is not there, or holds something that is not ours
            place.rmdir()


@contextmanager
def withdrawn(folder: Path, fresh: bool, ours: tuple[str, ...] = OURS) -> Iterator[None]:
    """Remove a ``fresh`` folder if what was asked fails before anything of worth lies in it."""
    try:
        yield
    except Exception:
        worth = [folder / name for name in ("rows.jsonl", "checkpoint.pt")]
        if fresh and not any(file.exists() and file.stat().st_size for file in worth):
            clear(folder, ours)
            sweep(folder, ours)
            (folder / MANIFEST).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Make ``folder`` and refuse a second process in it; whether it was made.

    The system lets go when this process ends, however.  A folder that stayed empty is removed.
    """
    made = _made(folder)
    try:
        with _locked(folder):
            yield bool(made)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is writing to {folder}; wait for it to end"
            ) from error
        yield
    finally:
        os.close(place)


def _made(folder: Path) -> list[Path]:
    """Make ``folder``; those that were made for it, the innermost first."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out takes a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _check_kind(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Neither a run nor a training knows the other's files, so it could not clear them away."""
    was, wanted = (str(table.get("task")) for table in (old, new))
    kinds = [task.partition(" ")[0] if " " in task else "run" for task in (was, wanted)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{folder} holds the files of {was!r}, which {wanted!r} would leave among its own; "
            "give another --out"
        )


def _check_same(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    found = changes(old, new)
    if found and found[0].startswith("algorithm "):
        raise ValueError(
            f"{folder} was computed by algorithm {old.get('algorithm', UNMARKED)}, and this "
            f"version computes algorithm {new.get('algorithm')}, whose results differ; give "
            "another --out, or --overwrite to start it afresh"
        )
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValueError(
            f"{folder} holds a run with other settings: {found[0]}{more}; "
            "give another --out, or --overwrite to start it afresh"
        )


def _warn_of_versions(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Other versions that compute the same thing may still round otherwise."""
    if found := other_versions(old, new):
        warnings.warn(
            f"{folder} resumes with other versions ({', '.join(found)}): new images may differ "
            "from the old ones by rounding",
            stacklevel=3,
        )
