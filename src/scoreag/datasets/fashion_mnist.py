"""Fashion-MNIST (fashion-mnist), 28 x 28 grey, 10 classes: IDX files, or 40 bundled test images."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch

from scoreag.datasets import Labels, Pixels, Source, address, official, one_of
from scoreag.download import fetch
from scoreag.files import data_folder

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
IMAGES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
LABELS = {"train": "train-labels-idx1-ubyte.gz", "test": "t10k-labels-idx1-ubyte.gz"}
DIGESTS = {
    f"{name}-ubyte.gz": f"sha256:{value}"
    for name, value in (
        ("train-images-idx3", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
}
SAMPLE = Path(__file__).with_name("fashion_mnist_sample.npz")
SIDE = 28  # pixels
_MOST = 60_000  # images in a file

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of its package dataset-fashion-mnist
_DIGITS = ([5, 0, 4, 1, 9, 2, 1, 3], [7, 2, 1, 0, 4, 1, 4, 9])  # MNIST's files have these names


def load(
    what: str, root: str | Path | None = None, url: str | None = None, progress: bool = True
) -> Source:
    """The split "train" (60,000 images) or "test" (10,000); "sample" needs no files; "" is "test".

    "sample" is the first four test images of each class, with their positions among the test
    images as ids.

    Args:
        root: holds the four files, packed by gzip or not, or a folder fashion-mnist with them; else
            SCOREAG_DATA, else the cache folder.  Where neither it nor Debian's package has them,
            they are fetched into it; a ``root`` that is given must be there.
        url: of the folder that the files are in; else SCOREAG_FASHION_MNIST_URL, else the official.
    """
    split = one_of([*IMAGES, "sample"], what or "test", "fashion-mnist")
    if split == "sample":
        return _sample()

    def bring(folder: Path) -> None:
        for name in (LABELS[split], IMAGES[split]):
            place = address(f"{URL}/{name}", "SCOREAG_FASHION_MNIST_URL", url)
            fetch(place, folder / "fashion-mnist" / name, DIGESTS[name], progress)

    images, named = official("Fashion-MNIST", root, partial(_found, split), bring)
    labels = _labels(named)
    _check_images(images, len(labels))

    def read(positions: range) -> tuple[Pixels, Labels]:
        return _pixels(images, positions), labels[positions.start : positions.stop]

    return Source(len(labels), read, range(len(labels)), CLASSES)


def at_hand(what: str, root: str | Path | None = None) -> bool:
    """Whether the files of a split are there, so that nothing need be fetched."""
    split = one_of([*IMAGES, "sample"], what or "test", "fashion-mnist")
    return split == "sample" or _found(split, data_folder(root, "Fashion-MNIST")) is not None


def _sample() -> Source:
    with np.load(SAMPLE, allow_pickle=False) as file:
        images, labels, places = (torch.from_numpy(file[k]) for k in ("images", "labels", "places"))

    def read(positions: range) -> tuple[Pixels, Labels]:
        rows = slice(positions.start, positions.stop)
        return images[rows, None], labels[rows]

    return Source(len(images), read, places.tolist(), CLASSES)


def _found(split: str, folder: Path) -> tuple[Path, Path] | None:
    """The files of images and of labels, or None if one is missing."""
    for place in (folder / "fashion-mnist", folder, _DEBIAN):
        images, labels = (_either(place / names[split]) for names in (IMAGES, LABELS))
        if images and labels:
            return images, labels
    return None


def _either(packed: Path) -> Path | None:
    """The file without its .gz where there is one, else the one with it, else None."""
    return next((path for path in (packed.with_suffix(""), packed) if path.is_file()), None)


@contextmanager
def _reading(path: Path) -> Iterator[BufferedIOBase]:
    """The file, unpacked while it is read; what is wrong with it becomes one line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is no whole file of Fashion-MNIST: {error}; "
            "remove it, and the official one is fetched"
        ) from error


def _shape(file: BufferedIOBase, rank: int) -> list[int]:
    """The lengths in the header of an IDX file of bytes, big-endian, behind the magic number."""
    magic, *shape = (int.from_bytes(file.read(4), "big") for _ in range(1 + rank))
    if magic != 0x800 + rank:
        raise ValueError(f"its magic number is {magic:#x}, not {0x800 + rank:#x}")
    return shape


def _bytes(file: BufferedIOBase, count: int) -> torch.Tensor:
    data = bytearray(file.read(count))
    if len(data) < count:
        raise ValueError(f"it breaks off {count - len(data):,} bytes before its end")
    return torch.frombuffer(data, dtype=torch.uint8)


def _labels(path: Path) -> Labels:
    with _reading(path) as file:
        (count,) = _shape(file, rank=1)
        if not count:
            raise ValueError("it has no labels")
        if count > _MOST:
            raise ValueError(f"it has {count:,} labels; expected {_MOST:,} at most")
        labels = _bytes(file, count).long()
        if labels[:8].tolist() in _DIGITS:
            raise ValueError("these are the labels of MNIST's digits, whose files have its names")
        if labels.max() >= len(CLASSES):
            place = int((labels >= len(CLASSES)).nonzero()[0])
            raise ValueError(f"its label {place} is {labels[place]}, not 0..{len(CLASSES) - 1}")
    return labels


def _check_images(path: Path, count: int) -> None:
    with _reading(path) as file:
        shape = _shape(file, rank=3)
        if shape != [count, SIDE, SIDE]:
            raise ValueError(
                f"its shape is {shape}, and there are {count} labels of 28 x 28 images"
            )


def _pixels(path: Path, positions: range) -> Pixels:
    with _reading(path) as file:
        file.seek(16 + positions.start * SIDE * SIDE)
        pixels = _bytes(file, len(positions) * SIDE * SIDE)
    return pixels.reshape(-1, 1, SIDE, SIDE)
