"""Files that are whole or absent, with their digests, read without running code."""

import hashlib
import io
import os
import pickle
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SAFE_TORCH = (2, 10)  # the first to read files of torch.save safely


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
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


def asides(folder: Path, pattern: str) -> list[Path]:
    """What killed writes of the files of ``pattern`` left in ``folder``: ``.NAME.<digits>``."""
    place, _, name = pattern.rpartition("/")
    found = (folder / place).glob(f".{name}.*")
    return sorted(path for path in found if path.suffix[1:].isdigit() and path.is_file())


def write_text(path: Path, text: str) -> None:
    """Like ``path.write_text``, in UTF-8, but whole or not at all."""
    replace_file(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def digest(path: Path, algorithm: str) -> str:
    """The digest of a file's bytes by "sha256" or "md5", in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    return digest(path, "sha256")


def cache_folder() -> Path:
    """Where downloads are kept: SCOREAG_CACHE, else ~/.cache/scoreag."""
    return Path(os.environ.get("SCOREAG_CACHE") or "~/.cache/scoreag").expanduser()


def data_folder(root: str | Path | None, title: str) -> Path:
    """Where the data set ``title`` is: ``root``, else SCOREAG_DATA, else the cache folder."""
    given = root or os.environ.get("SCOREAG_DATA")
    folder = Path(given).expanduser() if given else cache_folder()
    if not given or folder.is_dir():
        return folder
    raise ValueError(
        f"no folder {str(given)!r}; give as {'--root' if root else 'SCOREAG_DATA'} the one with "
        f"{title}'s files, or make it, and they are fetched into it"
    )


def load_tensors(path: Path) -> Any:
    """A file of ``torch.save``, of which only tensors, numbers and containers are accepted."""
    check_torch()
    try:
        with warnings.catch_warnings(action="ignore"):  # a refusal says it better
            return unpacked(path)
    except Exception as error:  # a damaged file can raise anything
        # from None: torch advises to run whatever code the file holds
        raise ValueError(f"{path} is no whole file of tensors: {_refused(error)}") from None


def unpacked(file: Path | io.BytesIO) -> Any:
    """What ``torch.save`` wrote; the only place where torch reads a pickle."""
    check_torch()
    return torch.load(file, map_location="cpu", weights_only=True)


def check_torch() -> None:
    """Refuse a torch that runs code of such files (CVE-2025-32434), or writes where it must not.

    The latter is CVE-2026-24747.  Files of safetensors are read by any torch.
    """
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < SAFE_TORCH:
        raise ValueError(
            f"torch {torch.__version__} may run code that a file of torch.save holds; write "
            "pip install 'torch>=2.10', or give the weights as safetensors"
        )


def _refused(error: Exception) -> str:
    foreign = re.search(r"GLOBAL (\S+)|TorchScript", str(error))
    if foreign:
        return f"it holds {foreign[1] or 'a program'}, not only tensors; save its state_dict()"
    unknown = isinstance(error, pickle.UnpicklingError)
    return f"it {'was not written by torch.save' if unknown else 'is damaged'}; fetch it again"


def load_pickle(path: Path) -> Any:
    """A pickle of containers, numbers, text, bytes and arrays of integers; no code of it is run.

    The text of Python 2 comes as bytes.  Whatever names anything else is refused by that name.
    """
    try:
        with path.open("rb") as file:
            return _built(_PlainUnpickler(file, encoding="bytes").load())
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(f"{path} is no plain pickle: {error}; nothing of it was run") from error


class _Recipe:
    """How a pickle says that an object is made: kept as it is written, not followed."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = ()

    def __call__(self, *arguments: Any) -> Any:
        if self.name == "encode":  # bytes, as Python 3 writes them for Python 2
            return str(arguments[0]).encode("latin1")
        return _Recipe(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {"numpy": ("ndarray", "dtype"), "_codecs": ("encode",)} | {
            f"numpy.{core}.{part}": ("_reconstruct", "_frombuffer")
            for core in ("core", "_core")
            for part in ("multiarray", "numeric")
        }
        if name not in known.get(module, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _Recipe(name)


def _built(value: Any) -> Any:
    """The value with its arrays made from their bytes."""
    if isinstance(value, _Recipe):
        return _array(value)
    if isinstance(value, dict):
        return {_built(key): _built(item) for key, item in value.items()}
    return [_built(item) for item in value] if isinstance(value, list) else value


def _array(recipe: _Recipe) -> NDArray[Any]:
    if recipe.name == "_frombuffer":
        raw, kind, shape, order = recipe.arguments
    else:
        _, shape, kind, by_columns, raw = recipe.state
        order = "F" if by_columns else "C"
    code, mark = _text(kind.arguments[0]), _text(kind.state[1])
    if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"):
        raise ValueError(f"it holds an array of {code!r}, not of integers")
    return np.frombuffer(raw, np.dtype(mark + code)).reshape(shape, order=_text(order))


def _text(word: Any) -> Any:
    return word.decode("latin1") if isinstance(word, bytes) else word
