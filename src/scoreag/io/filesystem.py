"""Files that are whole or absent, with their digests, read without running code."""

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoreag.io import torch_files
from scoreag.io.bounded import get_file_size, read_bytes
from scoreag.io.pickles import SafeUnpickler, StubObject
from scoreag.registry import short_repr, truncate_text


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
    """Where the data set ``title`` is: ``root``, else SCOREAG_DATA, else the cache folder."""
    given = data_dir or os.environ.get("SCOREAG_DATA")
    folder = Path(given).expanduser() if given else cache_folder()
    if not given or folder.is_dir():
        return folder
    raise ValueError(
        f"no folder {str(given)!r}; give as {'--data-dir' if data_dir else 'SCOREAG_DATA'} the one with "
        f"{title}'s files, or make it, and they are fetched into it"
    )


def load_tensors(path: Path) -> Any:
    """A file of ``torch.save``, of which only tensors, numbers and containers are accepted."""
    return torch_files.load_torch_file(path)


def load_pickle(path: Path) -> Any:
    """A pickle of containers, numbers, text, bytes and arrays of integers; no code of it is run.

    The text of Python 2 comes as bytes.  Whatever names anything else is refused by that name.
    """
    data = io.BytesIO(read_bytes(path))
    try:
        return _build_arrays(_PlainUnpickler(data, encoding="bytes").load(), {})
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        told = f"{path} is no plain pickle: {truncate_text(str(error), 200)}; nothing of it was run"
        raise ValueError(told) from error


class _DeferredCall(StubObject):
    """How a pickle says that an object is made: kept as it is written, not followed."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name, self.arguments = name, arguments
        self.state = ()

    def __call__(self, *arguments: Any) -> Any:
        if self.name != "encode":
            return _DeferredCall(self.name, arguments)
        if not isinstance(arguments[0], str):
            raise ValueError("it encodes what is no text")
        return arguments[0].encode("latin1")  # bytes, as Python 3 writes them for Python 2


class _PlainUnpickler(SafeUnpickler):
    def resolve_global(self, module: str, name: str) -> Any:
        known = {"numpy": ("ndarray", "dtype"), "_codecs": ("encode",)} | {
            f"numpy.{core}.{part}": ("_reconstruct", "_frombuffer")
            for core in ("core", "_core")
            for part in ("multiarray", "numeric")
        }
        return _DeferredCall(name) if name in known.get(module, ()) else None


def _build_arrays(value: Any, built: dict[int, Any]) -> Any:
    """The value with its arrays made from their bytes; what is in many places is made once."""
    if id(value) not in built:
        if isinstance(value, _DeferredCall):
            built[id(value)] = _build_array(value)
        elif isinstance(value, dict):
            built[id(value)] = {key: _build_arrays(item, built) for key, item in value.items()}
        elif isinstance(value, list):
            built[id(value)] = [_build_arrays(item, built) for item in value]
        else:
            return value
    return built[id(value)]


def _build_array(call: _DeferredCall) -> NDArray[Any]:
    if call.name == "_frombuffer":
        raw, kind, shape, order = call.arguments
    else:
        _, shape, kind, by_columns, raw = call.state
        order = "F" if by_columns else "C"
    code, mark = _to_str(kind.arguments[0]), _to_str(kind.state[1])
    if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8") or mark not in tuple("<>|="):
        raise ValueError(f"it holds an array of {short_repr(code)}, not of integers")
    return np.frombuffer(raw, np.dtype(mark + code)).reshape(shape, order=_to_str(order))


def _to_str(word: Any) -> Any:
    return word.decode("latin1") if isinstance(word, bytes) else word
