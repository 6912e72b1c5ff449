"""Files that are whole or absent, their digests, and where they are kept."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoreag.io.bounded import get_file_size


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write aside, then rename: a reader sees the old file or the new one, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        os.replace(aside, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(aside)):
            raise
        # the file that was asked for, not the one aside, is what the user knows
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def find_temp_files(folder: Path, pattern: str) -> list[Path]:
    """What killed writes of the files of ``pattern`` left in ``folder``: ``.NAME.<digits>``."""
    place, _, name = pattern.rpartition("/")
    found = (folder / place).glob(f".{name}.*")
    return sorted(path for path in found if path.suffix[1:].isdigit() and path.is_file())


def write_text(path: Path, text: str) -> None:
    """Like ``path.write_text``, in UTF-8, but whole or not at all."""
    atomic_write(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """A table as indented JSON, whole or not at all."""
    write_text(path, json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


_FILE_TYPES = {
    stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link",
}  # fmt: skip


def describe_file_type(path: Path) -> str:
    """``a pipe``, ``a link`` and the like; "" for a regular file, and where nothing is."""
    try:
        return _FILE_TYPES.get(stat.S_IFMT(path.lstat().st_mode), "")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def check_regular_file(path: Path) -> None:
    """Refuse what is there and no regular file: a pipe or a device is read without an end.

    Raises:
        ValueError: it is a pipe, a device, a folder or a socket, or a link to one of these.
    """
    if path.exists():
        get_file_size(path)


def resolve_inside(folder: Path, name: str) -> Path:
    """The path of ``name`` below ``folder``, to which neither ``..`` nor any link leads.

    Raises:
        ValueError: it is outside the folder, or is no regular file.
    """
    given = Path(name)
    steps = [folder.joinpath(*given.parts[: i + 1]) for i in range(len(given.parts))]
    if given.is_absolute() or ".." in given.parts or any(step.is_symlink() for step in steps):
        raise ValueError(f"{folder} names {name!r}, which is outside its folder; nothing is read")
    check_regular_file(folder / given)
    return folder / given


def file_hash(path: Path, algorithm: str) -> str:
    """The digest of a file's bytes by "sha256" or "md5", in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    return file_hash(path, "sha256")


def cache_folder() -> Path:
    """Where downloads are kept: SCOREAG_CACHE, else ~/.cache/scoreag."""
    return Path(os.environ.get("SCOREAG_CACHE") or "~/.cache/scoreag").expanduser()


def data_folder(data_dir: str | Path | None, title: str) -> Path:
    """Where the data set ``title`` is: ``data_dir``, else SCOREAG_DATA, else the cache folder."""
    given = data_dir or os.environ.get("SCOREAG_DATA")
    folder = Path(given).expanduser() if given else cache_folder()
    if not given or folder.is_dir():
        return folder
    raise ValueError(
        f"no folder {str(given)!r}; give as {'--data-dir' if data_dir else 'SCOREAG_DATA'} the one "
        f"with {title}'s files, or make it, and they are fetched into it"
    )
