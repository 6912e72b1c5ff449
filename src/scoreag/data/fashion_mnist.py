"""Fashion-MNIST, 28 x 28 gray, 10 classes: IDX files, or 40 bundled test images."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoreag.data.source import Labels, OfficialDataset, Pixels, Source

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SAMPLE_FILE = Path(__file__).with_name("fashion_mnist_sample.npz")
IMAGE_SIZE = 28  # pixels

_PREFIXES = {"train": "train", "test": "t10k"}  # of the names of the files
_MAX_IMAGES = 60_000  # in a file
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
_MNIST_LABELS = [5, 0, 4, 1, 9, 2, 1, 3], [7, 2, 1, 0, 4, 1, 4, 9]  # MNIST uses the same file names


def _file_names(split: str) -> tuple[str, str]:
    """Of the labels and of the images."""
    prefix = _PREFIXES[split]
    return f"{prefix}-labels-idx1-ubyte.gz", f"{prefix}-images-idx3-ubyte.gz"


def _find(folder: Path, split: str) -> list[Path] | None:
    """The files of labels and of images, compressed or not; None if one is missing."""
    for place in (folder / "fashion-mnist", folder, _DEBIAN_FOLDER):
        packed = [place / name for name in _file_names(split)]
        files = [[path for path in (p.with_suffix(""), p) if path.is_file()] for p in packed]
        if all(files):
            return [choices[0] for choices in files]
    return None


def _open(files: list[Path], split: str, progress: bool) -> Source:
    labels = _read_labels(files[0])
    with _open_file(files[1]) as file:
        shape = _read_shape(file, rank=3)
        if shape != [len(labels), IMAGE_SIZE, IMAGE_SIZE]:
            raise ValueError(
                f"its shape is {shape}, and there are {len(labels)} labels of 28 x 28 images"
            )

    def read(positions: range) -> tuple[Pixels, Labels]:
        with _open_file(files[1]) as file:
            file.seek(16 + positions.start * IMAGE_SIZE * IMAGE_SIZE)
            pixels = _read_bytes(file, len(positions) * IMAGE_SIZE * IMAGE_SIZE)
        pixels = pixels.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE)
        return pixels, labels[positions.start : positions.stop]

    return Source(len(labels), read, range(len(labels)), CLASSES)


def _load_sample() -> Source:
    """The first four test images of each class; their ids are their positions in the test split."""
    with np.load(SAMPLE_FILE, allow_pickle=False) as file:
        images, labels, places = (torch.from_numpy(file[k]) for k in ("images", "labels", "places"))

    def read(positions: range) -> tuple[Pixels, Labels]:
        rows = slice(positions.start, positions.stop)
        return images[rows, None], labels[rows]

    return Source(len(images), read, places.tolist(), CLASSES)


@contextmanager
def _open_file(path: Path) -> Iterator[BufferedIOBase]:
    """The file, decompressed while it is read; any error about it becomes one line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is no complete file of Fashion-MNIST: {error}; "
            "remove it, and the official one is fetched"
        ) from error


def _read_shape(file: BufferedIOBase, rank: int) -> list[int]:
    """The lengths in the header of an IDX file of bytes, big-endian, after the magic number."""
    magic, *shape = (int.from_bytes(file.read(4), "big") for _ in range(1 + rank))
    if magic != 0x800 + rank:
        raise ValueError(f"its magic number is {magic:#x}, not {0x800 + rank:#x}")
    return shape


def _read_bytes(file: BufferedIOBase, count: int) -> Tensor:
    data = bytearray(file.read(count))
    if len(data) < count:
        raise ValueError(f"it breaks off {count - len(data):,} bytes before its end")
    return torch.frombuffer(data, dtype=torch.uint8)


def _read_labels(path: Path) -> Labels:
    with _open_file(path) as file:
        (count,) = _read_shape(file, rank=1)
        if not count:
            raise ValueError("it has no labels")
        if count > _MAX_IMAGES:
            raise ValueError(f"it has {count:,} labels; expected {_MAX_IMAGES:,} at most")
        labels = _read_bytes(file, count).long()
        if labels[:8].tolist() in _MNIST_LABELS:
            raise ValueError("these are the labels of MNIST's digits, whose files have its names")
        if labels.max() >= len(CLASSES):
            place = int((labels >= len(CLASSES)).nonzero()[0])
            raise ValueError(f"its label {place} is {labels[place]}, not 0..{len(CLASSES) - 1}")
    return labels


FASHION_MNIST = OfficialDataset(
    name="fashion-mnist",
    title="Fashion-MNIST",
    splits=("train", "test", "sample"),
    url="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    digests={
        f"fashion-mnist/{name}-ubyte.gz": f"sha256:{digest}"
        for name, digest in {
            "train-images-idx3": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        }.items()
    },
    find=_find,
    open=_open,
    needs=lambda split: [f"fashion-mnist/{name}" for name in _file_names(split)],
    bundled={"sample": _load_sample},
    CLASSES=CLASSES,
)
