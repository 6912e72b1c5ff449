"""CIFAR-10 from the official files, binary or python layout, fetched where there are none."""

import shutil
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoreag.data.source import Labels, Pixels, Source, find_or_download, pick_split, resolve_url
from scoreag.io.download import download_file
from scoreag.io.filesystem import atomic_write, data_folder
from scoreag.io.safe_unpickler import load_pickle

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
DIGEST = "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
SPLITS = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
IMAGE_BYTES = 3 * 32 * 32  # of an image, in CIFAR-100 too

_BINARY, _PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_IMAGES_PER_FILE = 10_000  # in each file

ByteArray = NDArray[np.uint8]
IntArray = NDArray[np.int64]
_Read = Callable[[Path, int, range], tuple[ByteArray, IntArray]]


def load(
    split_name: str,
    data_dir: str | Path | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Source:
    """The split "train" (5 files of 10,000 images) or "test" (one); "" is "test".

    Args:
        data_dir: holds the files, or one of the official folders that hold them; as in
            ``find_or_download``.
        url: of the archive or of the folder it is in; else SCOREAG_CIFAR10_URL, else the official.
    """
    split = pick_split(SPLITS, split_name or "test", "cifar10")

    def bring(folder: Path) -> None:
        files = [f"{name}.bin" for names in SPLITS.values() for name in names]
        place = resolve_url(URL, "SCOREAG_CIFAR10_URL", url)
        archive = folder / Path(URL).name
        download_archive(
            place, archive, DIGEST, folder / _BINARY, [*files, "batches.meta.txt"], progress
        )

    files, read = find_or_download("CIFAR-10", data_dir, partial(_find_files, split), bring)
    count = len(files) * _IMAGES_PER_FILE
    return Source(
        count, partial(_read_images, files, read, _IMAGES_PER_FILE), range(count), CLASSES
    )


def is_cached(split_name: str, data_dir: str | Path | None = None) -> bool:
    """Whether the files of a split are there, so that nothing need be fetched."""
    return (
        _find_files(
            pick_split(SPLITS, split_name or "test", "cifar10"), data_folder(data_dir, "CIFAR-10")
        )
        is not None
    )


def download_archive(
    url: str, archive: Path, expected: str, folder: Path, names: Sequence[str], progress: bool
) -> None:
    """Fetch ``archive``, and unpack its files ``names`` into ``folder``.

    It is kept if it was there before.
    """
    brought = archive.exists()
    download_file(url, archive, expected, progress)
    _unpack(archive, folder, list(names))
    if not brought:
        archive.unlink()


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """The expected files out of the archive, and nothing else, whatever it holds."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix(f"{folder.name}/")
            content = tar.extractfile(member) if member.isreg() and name in names else None
            if content is not None:
                names.remove(name)
                atomic_write(folder / name, partial(_copy, content))
    if names:
        raise ValueError(f"{archive} lacks {', '.join(names)}; it is not the official archive")


def _copy(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _find_files(split: str, folder: Path) -> tuple[list[Path], _Read] | None:
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


def _read_images(
    files: list[Path], read: _Read, per_file: int, positions: range
) -> tuple[Pixels, Labels]:
    """The images and labels at ``positions``, from those files only that hold them."""
    images = np.empty((len(positions), IMAGE_BYTES), np.uint8)
    labels = np.empty(len(positions), np.int64)
    for i, path in enumerate(files):
        start = max(positions.start, i * per_file)
        stop = min(positions.stop, (i + 1) * per_file)
        if start < stop:
            rows = slice(start - positions.start, stop - positions.start)
            inside = range(start - i * per_file, stop - i * per_file)
            images[rows], labels[rows] = read(path, per_file, inside)
            check_labels(path, labels[rows], inside, len(CLASSES))
    return to_pixels(images), torch.from_numpy(labels)


def to_pixels(images: ByteArray) -> Pixels:
    """Rows of 3 x 32 x 32 bytes as images."""
    return torch.from_numpy(images).reshape(-1, 3, 32, 32)


def check_labels(path: Path, labels: IntArray, positions: range, n_classes: int) -> None:
    """Refuse labels, those at the positions of a file, that count no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        place, label = positions[wrong[0]], labels[wrong[0]]
        raise ValueError(
            f"{path} is damaged: its image {place} has the label {label}, not 0..{n_classes - 1}"
        )


def _read_binary(path: Path, per_file: int, positions: range) -> tuple[ByteArray, IntArray]:
    record = 1 + IMAGE_BYTES
    size, expected = path.stat().st_size, per_file * record
    if size != expected:
        raise ValueError(
            f"{path} has {size:,} bytes, not {expected:,} ({per_file:,} records of {record}): "
            "remove it, and the official one is fetched"
        )
    images, labels = read_records(path, 1, positions)
    return images, labels[:, 0]


def read_records(path: Path, n_labels: int, positions: range) -> tuple[ByteArray, IntArray]:
    """The images and the ``n_labels`` labels of each, at the positions of a binary file.

    A record is a byte for each label and 3 x 32 x 32 bytes of red, green and blue planes.
    """
    size = n_labels + IMAGE_BYTES
    data = np.fromfile(path, np.uint8, len(positions) * size, offset=positions.start * size)
    rows = data.reshape(len(positions), size)
    return rows[:, n_labels:], rows[:, :n_labels].astype(np.int64)


def _read_python(path: Path, per_file: int, positions: range) -> tuple[ByteArray, IntArray]:
    images, labels = read_pickled_batch(path, ["labels"], per_file)
    rows = slice(positions.start, positions.stop)
    return images[rows], labels[rows, 0]


def read_pickled_batch(
    path: Path, keys: Sequence[str], count: int | None = None
) -> tuple[ByteArray, IntArray]:
    """All images of a pickled batch and their labels under each of ``keys``, in columns.

    It is a dictionary of ``data``, uint8 rows of 3072, and of lists of labels.

    Args:
        count: how many there must be; None takes any number.
    """
    content = load_pickle(path)
    content = content if isinstance(content, dict) else {}
    named = {k.decode("latin1") if isinstance(k, bytes) else k: content[k] for k in content}
    held = named.get("data")
    data: NDArray[Any] = held if isinstance(held, np.ndarray) else np.empty(0)  # lists may explode
    wanted = count or len(data)
    columns = [_to_integers(named.get(key)) for key in keys]
    shapes = [column.shape for column in columns]
    if (
        data.shape != (wanted, IMAGE_BYTES)
        or data.dtype != np.uint8
        or shapes != [(wanted,)] * len(keys)
    ):
        found = ", ".join(f"{key} {shape}" for key, shape in zip(keys, shapes, strict=True))
        raise ValueError(
            f"{path} is no official batch: data {data.shape} {data.dtype}, {found}; "
            f"expected ({wanted}, {IMAGE_BYTES}) uint8 and ({wanted},)"
        )
    return data, np.stack(columns, axis=1)


def _to_integers(labels: Any) -> IntArray:
    """A list of whole numbers as an array; an empty one where it is anything else."""
    whole = isinstance(labels, list) and all(
        type(label) is int and abs(label) < 1 << 31 for label in labels
    )
    return np.array(labels if whole else [], np.int64)
