"""A run's folder: whose it is, whether it may be continued, and what may be deleted in it."""

import errno
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias

from scoreag.core.algorithm import LEGACY_ALGORITHM
from scoreag.io.filesystem import (
    check_regular_file,
    describe_file_type,
    find_temp_files,
    write_text,
)
from scoreag.io.row_digests import SEAL, read_seal
from scoreag.runs.manifest import FORMAT, compute_seal, diff_manifests, parse_spans, version_changes
from scoreag.runs.probe import changed_classifiers

MANIFEST, ROWS = "manifest.json", "rows.jsonl"
PICTURE_FOLDERS = ("images", "originals")  # the pictures of a run, each in a folder of its own
OWNED_FILES = (ROWS, "summary.json", "report.html", *(f"{kind}/*.png" for kind in PICTURE_FOLDERS))
ListOwned: TypeAlias = Callable[[Path], Iterable[str]]  # the files that a folder says a run wrote


def owned_pictures(folder: Path) -> Iterator[str]:
    """The pictures that the manifest of a run and its rows name, whether they are there or not."""
    ids = _parse_ids(read_manifest(folder).get("image_ids"))
    for line in _read_text(folder / ROWS).splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            ids.add(int(json.loads(line)["image_id"]))
    for kind in PICTURE_FOLDERS:
        yield from (picture_path(kind, i) for i in ids)


def picture_path(kind: str, image_id: int) -> str:
    """The file of an image, relative to the run's folder."""
    return f"{kind}/{image_id:06d}.png"


def _parse_ids(spans: Any) -> set[int]:
    with suppress(ValueError):
        return {*parse_spans(spans)} if isinstance(spans, str) else set()
    return set()


def _read_text(file: Path) -> str:
    return file.read_text("utf-8", errors="replace") if file.is_file() else ""


def open_run_dir(
    folder: Path,
    manifest: Mapping[str, Any],
    overwrite: bool = False,
    owned: tuple[str, ...] = OWNED_FILES,
    list_owned: ListOwned | None = None,
) -> dict[str, Any]:
    """Make ``folder`` the place of the run that ``manifest`` describes; the manifest kept there.

    A folder that holds the same run is left as it is, so that the run can go on.  Call it within
    ``alone``: it deletes what killed writes left, and, to overwrite, what the run wrote.

    Args:
        overwrite: start afresh, whatever run was there; files that no run wrote are never touched.
        ours: patterns of the files that a run of this kind writes, beside its manifest.
        named: which of the files that a pattern fits the run has written, if that does not follow
            from their names; others are not deleted.  By default the pictures of a task's run.

    Raises:
        ValueError: the folder holds something else, a run with other settings, or, whatever
            ``overwrite`` says, a training in place of a run or the other way round, or a link.
    """
    made = _make_folders(folder)
    try:
        manifest = {**manifest, SEAL: compute_seal(manifest)}
        refuse_links(folder, owned)
        there = _existing_manifest(folder, owned)
        if there is not None:
            _check_kind(folder, there, manifest)
        if there is not None and not overwrite:
            _check_same(folder, there, manifest, owned)
            _warn_of_versions(folder, there, manifest)
        remove_temp_files(folder, owned)
        if there is not None and not overwrite:
            return there
        if there is not None:
            list_owned = (
                owned_pictures if list_owned is None and owned is OWNED_FILES else list_owned
            )
            delete_owned(folder, owned, None if list_owned is None else {*list_owned(folder)})
        write_manifest(folder, manifest)
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise
    return dict(manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run's folder.

    Raises:
        ValueError: there is none, so this is not a run's folder and is left alone.
    """
    file = folder / MANIFEST
    check_regular_file(file)
    if not file.is_file():
        raise ValueError(
            f"{folder} holds no run: there is no {MANIFEST} in it; give a run's folder"
        )
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        form = found["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is no manifest of a run") from error
    if form != FORMAT:
        raise ValueError(
            f"{file} has format {form}, and this version writes {FORMAT}; give another --out"
        )
    return found


def verify_seal(folder: Path, manifest: Mapping[str, Any]) -> str:
    """The seal of the run in ``folder``, to which the digest of each of its rows is bound.

    Raises:
        ValueError: an earlier version wrote it, or the manifest was changed afterwards.
    """
    found = read_seal(manifest, folder)
    if found != compute_seal(manifest):
        raise ValueError(
            f"{folder / MANIFEST} is not as the run wrote it; give the command of the run again "
            "with --overwrite"
        )
    return found


def refuse_links(folder: Path, owned: tuple[str, ...] = OWNED_FILES) -> None:
    """Refuse links and special files where a run keeps its own: they lead to what is another's."""
    for pattern in (MANIFEST, *owned):
        *above, last = pattern.split("/")
        for place in _pattern_folders(folder, above):
            if not {*"*["} & {*last}:
                _check_file_kind(place / last, ("",))


def _pattern_folders(folder: Path, parents: list[str]) -> list[Path]:
    """The folders that a pattern's files may lie in, none of which is a link."""
    places = [folder]
    for name in parents:
        found = [path for place in places for path in _matching_entries(place, name)]
        for path in found:
            _check_file_kind(path, ("", "a folder"))
        places = [path for path in found if path.is_dir()]
    return places


def _matching_entries(folder: Path, name: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if fnmatch(path.name, name))


def _check_file_kind(path: Path, allowed: tuple[str, ...]) -> None:
    if (kind := describe_file_type(path)) not in allowed:
        raise ValueError(
            f"{path} is {kind}, and a run keeps its own files there; remove it, or give another "
            "folder"
        )


def _existing_manifest(folder: Path, owned: tuple[str, ...]) -> dict[str, Any] | None:
    """The manifest of the run in a folder; None where it is empty but for killed writes."""
    if {*folder.iterdir()} <= {*_temp_files(folder, owned)}:
        return None
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f"{folder} is not empty and holds no run (there is no {MANIFEST}), so it is left "
            "alone; give another --out"
        )
    return read_manifest(folder)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The manifest, whole or not at all."""
    write_json(folder / MANIFEST, manifest)


def write_json(file: Path, table: Mapping[str, Any]) -> None:
    """A table as indented JSON."""
    write_text(file, json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_temp_files(folder: Path, owned: tuple[str, ...] = OWNED_FILES) -> None:
    """Delete what killed writes of our own files left behind."""
    for path in _temp_files(folder, owned):
        path.unlink()


def _temp_files(folder: Path, owned: tuple[str, ...]) -> list[Path]:
    return [path for pattern in (MANIFEST, *owned) for path in find_temp_files(folder, pattern)]


def delete_owned(
    folder: Path, owned: tuple[str, ...] = OWNED_FILES, only: set[str] | None = None
) -> None:
    """Delete what a run wrote, all but its manifest: stopped here, it is still a run.

    Args:
        named: of the files that a pattern fits, only these are deleted; None: all of them.
    """
    emptied = {folder / pattern.split("/")[0] for pattern in owned if "/" in pattern}
    for pattern in owned:
        for path in sorted(folder.glob(pattern)):
            if only is not None and "*" in pattern and _relative_path(folder, path) not in only:
                continue
            path.unlink()
            emptied.update(above for above in path.parents if folder in above.parents)
    for place in sorted(emptied, key=lambda path: len(path.parts), reverse=True):
        with suppress(OSError):  # it is not there, or holds something that is not ours
            place.rmdir()


def _relative_path(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


@contextmanager
def cleanup_on_error(
    folder: Path,
    is_new: bool,
    owned: tuple[str, ...] = OWNED_FILES,
    keep_patterns: tuple[str, ...] = (ROWS, "checkpoint.pt"),
) -> Iterator[None]:
    """Empty a ``fresh`` folder if what was asked fails before anything of worth lies in it.

    Args:
        worth: patterns of the files of worth.
    """
    try:
        yield
    except Exception:
        kept = [file for pattern in keep_patterns for file in folder.glob(pattern)]
        if is_new and not any(file.stat().st_size for file in kept):
            delete_owned(folder, owned)
            remove_temp_files(folder, owned)
            (folder / MANIFEST).unlink(missing_ok=True)
        raise


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[bool]:
    """Make ``folder`` and refuse a second process in it; whether it was made, or was empty.

    The system lets go when this process ends, however.  What was made and stayed empty is removed.
    """
    made = _make_folders(folder)
    try:
        with _file_lock(folder):
            yield not any(folder.iterdir())
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


@contextmanager
def _file_lock(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        os.close(place)


def _make_folders(folder: Path) -> list[Path]:
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


def _check_same(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], owned: tuple[str, ...]
) -> None:
    found = diff_manifests(old, new)
    if found and found[0].startswith("algorithm "):
        raise ValueError(
            f"{folder} was computed by algorithm {old.get('algorithm', LEGACY_ALGORITHM)}, and this "
            f"version computes algorithm {new.get('algorithm')}, whose results differ; give "
            "another --out, or --overwrite to start it afresh"
        )
    if ROWS in owned:
        read_seal(old, folder)  # an earlier version's rows have none
    if not found and (others := changed_classifiers(old, new)):
        found = [f"the {others[0]} answers otherwise than when it was begun"]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ValueError(
            f"{folder} holds a run with other settings: {shorten(found[0], 300)}{more}; "
            "give another --out, or --overwrite to start it afresh"
        )


def _warn_of_versions(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Other versions that compute the same thing may still round otherwise."""
    if found := version_changes(old, new):
        warnings.warn(
            f"{folder} resumes with other versions ({', '.join(found)}): new images may differ "
            "from the old ones by rounding",
            stacklevel=3,
        )
