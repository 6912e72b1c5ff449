"""The folder of a run, for every kind of run: one process claims, resumes and finishes it.

A folder that holds the same run is resumed; one that holds anything else is refused.  A run writes
and deletes the files that its kind names, and nothing else, and never through a link.
"""

import errno
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from textwrap import shorten
from typing import Any

from scoreag.core import LEGACY_ALGORITHM
from scoreag.io.filesystem import describe_file_type, find_temp_files
from scoreag.io.manifest import (
    FORMAT,
    MANIFEST,
    SEAL,
    changed_classifiers,
    compute_seal,
    describe_environment,
    diff_manifests,
    read_manifest,
    read_seal,
    utc_now,
    version_changes,
    write_manifest,
)

ROWS = "rows.jsonl"
TABLES, FIGURES = "tables", "figures"  # folders of what stands on a page
TABLE_SUFFIXES = ("csv", "json", "md", "tex")


def page_files(tables: Iterable[str], figures: Iterable[str] = ()) -> tuple[str, ...]:
    """The files of the tables and figures that stand on the page of a run, by their names."""
    return (
        *(f"{TABLES}/{name}.{suffix}" for name in tables for suffix in TABLE_SUFFIXES),
        *(f"{FIGURES}/{name}.svg" for name in figures),
    )


@dataclass(frozen=True)
class RunFiles:
    """The files of a kind of run beside its manifest.

    Args:
        owned: patterns of its files.
        valuable: patterns of results; a failed run without any is deleted.
        list_owned: the files that the run wrote, where a pattern matches others, too; only these
            are deleted.
    """

    owned: tuple[str, ...]
    valuable: tuple[str, ...] = (ROWS,)
    list_owned: Callable[[Path], Iterable[str]] | None = None


@dataclass(frozen=True)
class RunDir:
    """A folder that this process has locked, with the manifest of its run."""

    path: Path
    manifest: Mapping[str, Any]

    def finish(self, **entries: Any) -> None:
        """Record in the manifest when the run was finished first, and further ``entries``."""
        finished = {"finished": self.manifest.get("finished") or utc_now(), **entries}
        if {**self.manifest, **finished} != self.manifest:
            write_manifest(self.path, {**self.manifest, **finished})


@contextmanager
def open_run_dir(
    folder: Path, manifest: Mapping[str, Any], files: RunFiles, overwrite: bool = False
) -> Iterator[RunDir]:
    """Lock ``folder``, and begin or resume the run that ``manifest`` describes.

    The environment and the seal are added to a new manifest; a resumed run keeps its manifest.
    Leftovers of killed writes are deleted, and a new folder without results after an error.

    Args:
        overwrite: delete the files of another run of this kind.

    Raises:
        ValueError: another process has locked the folder; or it contains something else, a run with
            another configuration, a link, or, even with ``overwrite``, a run of another kind.
    """
    with _created(folder), _exclusive_lock(folder):
        is_new = not any(folder.iterdir())
        manifest = {**manifest, "format": FORMAT, **describe_environment()}
        run = RunDir(folder, _claim(folder, manifest, files, overwrite))
        try:
            yield run
        except Exception:
            if is_new and not _has_results(folder, files):
                delete_owned(folder, files)
                for path in (*_temp_files(folder, files), folder / MANIFEST):
                    path.unlink(missing_ok=True)
            raise


def _claim(
    folder: Path, manifest: Mapping[str, Any], files: RunFiles, overwrite: bool
) -> dict[str, Any]:
    """Resume the run in ``folder``, or begin it; its manifest."""
    new = {**manifest, SEAL: compute_seal(manifest)}
    refuse_links(folder, files)
    old = _existing_manifest(folder, files)
    if old is not None:
        _check_kind(folder, old, new)
        if not overwrite:
            _check_same(folder, old, new, files)
            _warn_of_versions(folder, old, new)
    for path in _temp_files(folder, files):
        path.unlink()
    if old is not None and not overwrite:
        return old
    if old is not None:
        delete_owned(folder, files)
    write_manifest(folder, new)
    return new


def _existing_manifest(folder: Path, files: RunFiles) -> dict[str, Any] | None:
    """The manifest of the run in a folder; None where there are at most leftovers."""
    if {*folder.iterdir()} <= {*_temp_files(folder, files)}:
        return None
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} is not empty and holds no run (there is no {MANIFEST}), so it is left "
            "alone; give another --out"
        )
    return read_manifest(folder)


def _check_kind(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse a run of another kind, whose files this kind could not delete."""
    tasks = [str(manifest.get("task")) for manifest in (old, new)]
    kinds = [task.partition(" ")[0] if " " in task else "run" for task in tasks]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{folder} holds the files of {tasks[0]!r}, which {tasks[1]!r} would leave among its "
            "own; give another --out"
        )


def _check_same(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], files: RunFiles
) -> None:
    changes = diff_manifests(old, new)
    if changes and changes[0].startswith("algorithm "):
        raise ValueError(
            f"{folder} was computed by algorithm {old.get('algorithm', LEGACY_ALGORITHM)}, and "
            f"this version computes algorithm {new.get('algorithm')}, whose results differ; give "
            "another --out, or --overwrite to start it from scratch"
        )
    if ROWS in files.owned:
        read_seal(old, folder)  # an earlier version's rows have none
    if not changes and (roles := changed_classifiers(old, new)):
        changes = [f"the {roles[0]} answers otherwise than when it was begun"]
    if changes:
        more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
        raise ValueError(
            f"{folder} holds a run with other settings: {shorten(changes[0], 300)}{more}; "
            "give another --out, or --overwrite to start it from scratch"
        )


def _warn_of_versions(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if changes := version_changes(old, new):
        warnings.warn(
            f"{folder} resumes with other versions ({', '.join(changes)}): new images may differ "
            "from the old ones by rounding",
            stacklevel=2,
        )


def refuse_links(folder: Path, files: RunFiles) -> None:
    """Refuse links and special files in the places of a run's own files."""
    for pattern in (MANIFEST, *files.owned):
        *parents, name = pattern.split("/")
        for parent in _pattern_folders(folder, parents):
            if not {*"*["} & {*name}:
                _check_file_kind(parent / name, ("",))


def _pattern_folders(folder: Path, parents: list[str]) -> list[Path]:
    """The folders that may contain a pattern's files, none of which is a link."""
    folders = [folder]
    for name in parents:
        paths = [path for each in folders for path in each.iterdir() if fnmatch(path.name, name)]
        for path in sorted(paths):
            _check_file_kind(path, ("", "a folder"))
        folders = [path for path in paths if path.is_dir()]
    return folders


def _check_file_kind(path: Path, allowed: tuple[str, ...]) -> None:
    if (kind := describe_file_type(path)) not in allowed:
        raise ValueError(
            f"{path} is {kind}, and a run keeps its own files there; remove it, or give another "
            "folder"
        )


def delete_owned(folder: Path, files: RunFiles) -> None:
    """Delete all files of a run but its manifest, by which it is still a run if interrupted."""
    listed = None if files.list_owned is None else {*files.list_owned(folder)}
    emptied = {folder / pattern.split("/")[0] for pattern in files.owned if "/" in pattern}
    for pattern in files.owned:
        for path in sorted(folder.glob(pattern)):
            name = path.relative_to(folder).as_posix()
            if listed is None or "*" not in pattern or name in listed:
                path.unlink()
                emptied.update(parent for parent in path.parents if folder in parent.parents)
    for path in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it does not exist, or contains files that no run wrote
            path.rmdir()


def _has_results(folder: Path, files: RunFiles) -> bool:
    paths = (path for pattern in files.valuable for path in folder.glob(pattern))
    return any(path.stat().st_size for path in paths)


def _temp_files(folder: Path, files: RunFiles) -> list[Path]:
    """The leftovers of killed writes of the run's files."""
    return [p for pattern in (MANIFEST, *files.owned) for p in find_temp_files(folder, pattern)]


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    """Create ``folder``; after an error, new folders that are empty are removed."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --out takes a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Refuse a second process; the system releases the lock when this one ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError) or error.errno == errno.EACCES:
                raise ValueError(
                    f"another process is writing to {folder}; wait for it to end"
                ) from error
            warnings.warn(
                f"the file system of {folder} has no locks ({error.strerror}): see to it that no "
                "second process writes there",
                stacklevel=2,
            )
        yield
    finally:
        os.close(descriptor)
