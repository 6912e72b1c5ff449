"""CIFAR-10 from the official files, binary or python layout, fetched where there are none."""

import os
import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoreag.datasets import Labels, Pixels, Source
from scoreag.files import cache_folder, fetch, load_pickle, replace_file
from scoreag.load import hint

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
DIGEST = "md5:c32a1d4ab5d03f1284b67883e8d87530"
SPLITS = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}

_BINARY, _PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_IMAGES = 10_000  # in each file
_BYTES = 3 * 32 * 32

_Bytes = NDArray[np.uint8]
_Read = Callable[[Path, int, range], tuple[_Bytes, _Bytes]]


def load(
    what: str, root: str | Path | None = None, url: str | None = None, progress: bool = True
) -> Source:
    """The split "train" (5 files of 10,000 images) or "test" (one); "" is "test".

    Args:
        root: holds the files, or one of the official folders that hold them; else SCOREAG_DATA,
            else the cache folder.  Where it has none, the official archive is fetched into it;
            a ``root`` that is given must be there.
        url: of the archive or of the folder it is in; else SCOREAG_CIFAR10_URL, else the official.
    """
    split = what or "test"
    if split not in SPLITS:
        raise ValueError(f"cifar10 has no split {split!r}; {hint(split, list(SPLITS))}")
    if root is not None and not Path(root).expanduser().is_dir():
        raise ValueError(
            f"no folder {str(root)!r}; give as --root the one with CIFAR-10's files, "
            "or make it, and they are fetched into it"
        )
    folder = Path(root or os.environ.get("SCOREAG_DATA") or cache_folder()).expanduser()
    found = _found(folder, split)
    if found is None:
        try:
            download(folder, url, DIGEST, progress)
        except ConnectionError as error:
            raise ConnectionError(f"no CIFAR-10 files in {folder}, and {error}") from error
        found = _found(folder, split)
    if found is None:
        raise ValueError(f"{folder} has no files of CIFAR-10's {split} split, though just fetched")
    files, read = found
    count = len(files) * _IMAGES
    return Source(count, partial(_joined, files, read, _IMAGES), range(count), CLASSES)


def download(folder: Path, url: str | None, expected: str, progress: bool = True) -> None:
    """Fetch the official binary archive and unpack its files into ``folder``."""
    address = url or os.environ.get("SCOREAG_CIFAR10_URL") or URL
    if not address.endswith(".gz"):
        address = f"{address.rstrip('/')}/{Path(URL).name}"
    archive = folder / Path(URL).name
    brought = archive.exists()
    fetch(address, archive, expected, progress)
    _unpack(archive, folder / _BINARY)
    if not brought:
        archive.unlink()


def _unpack(archive: Path, folder: Path) -> None:
    """The expected files out of the archive, and nothing else, whatever it holds."""
    names = [f"{name}.bin" for names in SPLITS.values() for name in names] + ["batches.meta.txt"]
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix(f"{_BINARY}/")
            content = tar.extractfile(member) if member.isreg() and name in names else None
            if content is not None:
                names.remove(name)
                replace_file(folder / name, partial(_copy, content))
    if names:
        raise ValueError(f"{archive} lacks {', '.join(names)}; it is not CIFAR-10's binary archive")


def _copy(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _found(folder: Path, split: str) -> tuple[list[Path], _Read] | None:
    """The files of a split and how to read them, or None if any is missing."""
    layouts: list[tuple[str, str, _Read]] = [
        (_BINARY, ".bin", _read_binary),
        (_PYTHON, "", _read_python),
    ]
    for name, suffix, read in layouts:
        for place in (folder, folder / name):
            files = [place / f"{file}{suffix}" for file in SPLITS[split]]
            if all(file.is_file() for file in files):
                return files, read
    return None


def _joined(
    files: list[Path], read: _Read, per_file: int, positions: range
) -> tuple[Pixels, Labels]:
    """The images and labels at ``positions``, from those files only that hold them."""
    images = np.empty((len(positions), _BYTES), np.uint8)
    labels = np.empty(len(positions), np.uint8)
    for i, path in enumerate(files):
        start = max(positions.start, i * per_file)
        stop = min(positions.stop, (i + 1) * per_file)
        if start < stop:
            rows = slice(start - positions.start, stop - positions.start)
            inside = range(start - i * per_file, stop - i * per_file)
            images[rows], labels[rows] = read(path, per_file, inside)
            _check_labels(path, labels[rows], inside)
    pixels = torch.from_numpy(images).reshape(-1, 3, 32, 32)
    return pixels, torch.from_numpy(labels).long()


def _check_labels(path: Path, labels: _Bytes, inside: range) -> None:
    wrong = np.flatnonzero(labels >= len(CLASSES))
    if len(wrong):
        place, label = inside[wrong[0]], labels[wrong[0]]
        raise ValueError(f"{path} is damaged: its image {place} has the label {label}, not 0..9")


def _read_binary(path: Path, per_file: int, inside: range) -> tuple[_Bytes, _Bytes]:
    """Records of a label's byte and 3 x 32 x 32 bytes of red, green and blue planes."""
    record = 1 + _BYTES
    size, expected = path.stat().st_size, per_file * record
    if size != expected:
        raise ValueError(
            f"{path} has {size:,} bytes, not {expected:,} ({per_file:,} records of {record}): "
            "remove it, and the official one is fetched"
        )
    data = np.fromfile(path, np.uint8, len(inside) * record, offset=inside.start * record)
    records = data.reshape(len(inside), record)
    return records[:, 1:], records[:, 0]


def _read_python(path: Path, per_file: int, inside: range) -> tuple[_Bytes, _Bytes]:
    """A pickled dictionary of ``data``, uint8 rows of 3072, and ``labels``, a list."""
    content = load_pickle(path)
    content = content if isinstance(content, dict) else {}
    named = {key.decode() if isinstance(key, bytes) else key: content[key] for key in content}
    data, labels = np.asarray(named.get("data", [])), np.asarray(named.get("labels", []))
    if data.shape != (per_file, _BYTES) or data.dtype != np.uint8 or labels.shape != (per_file,):
        raise ValueError(
            f"{path} is no official batch: data {data.shape} {data.dtype}, labels {labels.shape}; "
            f"expected ({per_file}, {_BYTES}) uint8 and ({per_file},)"
        )
    rows = slice(inside.start, inside.stop)
    return data[rows], labels[rows].clip(0, 255).astype(np.uint8)
