"""Atomic writes, digests, and the folders of the user."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoreag.io.bounded import FILE_TYPES, get_file_size


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a temporary file, then rename it: readers see the old file or the new one."""
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temp)
        os.replace(temp, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temp)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # the name the user knows
    finally:
        with suppress(OSError):
            temp.unlink()


def find_temp_files(folder: Path, pattern: str) -> list[Path]:
    """The files ``.NAME.<digits>`` that killed writes of ``pattern`` left in ``folder``."""
    parent, _, name = pattern.rpartition("/")
    found = folder.glob(f"{parent}/.{name}.*" if parent else f".{name}.*")
    return sorted(path for path in found if path.suffix[1:].isdigit() and path.is_file())


def write_text(path: Path, text: str) -> None:
    """Like ``path.write_text``, in UTF-8, but atomic."""
    atomic_write(path, lambda temp: temp.write_text(text, encoding="utf-8"))


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table as indented JSON."""
    write_text(path, json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def describe_file_type(path: Path) -> str:
    """``a pipe``, ``a link`` and the like; "" for a regular file, and for no file."""
    try:
        return FILE_TYPES.get(stat.S_IFMT(path.lstat().st_mode), "")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def check_regular_file(path: Path) -> None:
    """Refuse a path that exists and is no regular file, such as a pipe."""
    if path.exists():
        get_file_size(path)


def resolve_inside(folder: Path, name: str) -> Path:
    """The path of ``name`` below ``folder``; ``..``, links and special files are refused."""
    relative = Path(name)
    steps = [folder.joinpath(*relative.parts[: i + 1]) for i in range(len(relative.parts))]
    if relative.is_absolute() or ".." in relative.parts or any(step.is_symlink() for step in steps):
        raise ValueError(f"{folder} names {name!r}, which is outside its folder; nothing is read")
    check_regular_file(folder / relative)
    return folder / relative


def file_hash(path: Path, algorithm: str) -> str:
    """The digest of a file's bytes by "sha256" or "md5", in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    return file_hash(path, "sha256")


def cache_folder() -> Path:
    """The folder of downloads: SCOREAG_CACHE, else ~/.cache/scoreag."""
    return Path(os.environ.get("SCOREAG_CACHE") or "~/.cache/scoreag").expanduser()


def data_folder(data_dir: str | Path | None, title: str) -> Path:
    """The folder of the data set ``title``: ``data_dir``, SCOREAG_DATA, or the cache folder."""
    chosen = data_dir or os.environ.get("SCOREAG_DATA")
    folder = Path(chosen).expanduser() if chosen else cache_folder()
    if not chosen or folder.is_dir():
        return folder
    option = "--data-dir" if data_dir else "SCOREAG_DATA"
    raise ValueError(
        f"no folder {str(chosen)!r}; give as {option} the one with {title}'s files, or make it, "
        "and they are fetched into it"
    )
