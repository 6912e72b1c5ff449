"""Fashion-MNIST (fashion-mnist), 28 x 28 gray, 10 classes: IDX files, or 40 bundled test images."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch

from scoreag.data.source import Labels, Pixels, Source, find_or_download, pick_split, resolve_url
from scoreag.io.download import download_file
from scoreag.io.filesystem import data_folder

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
IMAGE_FILES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
LABEL_FILES = {"train": "train-labels-idx1-ubyte.gz", "test": "t10k-labels-idx1-ubyte.gz"}
DIGESTS = {
    f"{name}-ubyte.gz": f"sha256:{value}"
    for name, value in (
        ("train-images-idx3", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        ("train-labels-idx1", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        ("t10k-images-idx3", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        ("t10k-labels-idx1", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    )
}
SAMPLE_FILE = Path(__file__).with_name("fashion_mnist_sample.npz")
IMAGE_SIZE = 28  # pixels
_MAX_IMAGES = 60_000  # images in a file

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of its package dataset-fashion-mnist
_MNIST_LABELS = [5, 0, 4, 1, 9, 2, 1, 3], [7, 2, 1, 0, 4, 1, 4, 9]  # its files have these names


def load(
    split_name: str,
    data_dir: str | Path | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Source:
    """The split "train" (60,000 images) or "test" (10,000); "sample" needs no files; "" is "test".

    "sample" is the first four test images of each class, with their positions among the test
    images as ids.

    Args:
        data_dir: holds the four files, packed by gzip or not, or a folder fashion-mnist with them;
            as in ``find_or_download``.  Debian's package of them is read, too.
        url: of the folder that the files are in; else SCOREAG_FASHION_MNIST_URL, else the official.
    """
    split = pick_split([*IMAGE_FILES, "sample"], split_name or "test", "fashion-mnist")
    if split == "sample":
        return _load_sample()

    def bring(folder: Path) -> None:
        for name in (LABEL_FILES[split], IMAGE_FILES[split]):
            place = resolve_url(f"{URL}/{name}", "SCOREAG_FASHION_MNIST_URL", url)
            download_file(place, folder / "fashion-mnist" / name, DIGESTS[name], progress)

    images, named = find_or_download("Fashion-MNIST", data_dir, partial(_find_files, split), bring)
    labels = _read_labels(named)
    _check_images(images, len(labels))

    def read(positions: range) -> tuple[Pixels, Labels]:
        return _read_pixels(images, positions), labels[positions.start : positions.stop]

    return Source(len(labels), read, range(len(labels)), CLASSES)


def is_cached(split_name: str, data_dir: str | Path | None = None) -> bool:
    """Whether the files of a split are there, so that nothing need be fetched."""
    split = pick_split([*IMAGE_FILES, "sample"], split_name or "test", "fashion-mnist")
    return (
        split == "sample" or _find_files(split, data_folder(data_dir, "Fashion-MNIST")) is not None
    )


def _load_sample() -> Source:
    with np.load(SAMPLE_FILE, allow_pickle=False) as file:
        images, labels, places = (torch.from_numpy(file[k]) for k in ("images", "labels", "places"))

    def read(positions: range) -> tuple[Pixels, Labels]:
        rows = slice(positions.start, positions.stop)
        return images[rows, None], labels[rows]

    return Source(len(images), read, places.tolist(), CLASSES)


def _find_files(split: str, folder: Path) -> tuple[Path, Path] | None:
    """The files of images and of labels, or None if one is missing."""
    for place in (folder / "fashion-mnist", folder, _DEBIAN_FOLDER):
        images, labels = (
            _find_gzipped_or_plain(place / names[split]) for names in (IMAGE_FILES, LABEL_FILES)
        )
        if images and labels:
            return images, labels
    return None


def _find_gzipped_or_plain(packed: Path) -> Path | None:
    """The file without its .gz where there is one, else the one with it, else None."""
    return next((path for path in (packed.with_suffix(""), packed) if path.is_file()), None)


@contextmanager
def _open_file(path: Path) -> Iterator[BufferedIOBase]:
    """The file, unpacked while it is read; what is wrong with it becomes one line."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is no whole file of Fashion-MNIST: {error}; "
            "remove it, and the official one is fetched"
        ) from error


def _read_shape(file: BufferedIOBase, rank: int) -> list[int]:
    """The lengths in the header of an IDX file of bytes, big-endian, behind the magic number."""
    magic, *shape = (int.from_bytes(file.read(4), "big") for _ in range(1 + rank))
    if magic != 0x800 + rank:
        raise ValueError(f"its magic number is {magic:#x}, not {0x800 + rank:#x}")
    return shape


def _read_bytes(file: BufferedIOBase, count: int) -> torch.Tensor:
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


def _check_images(path: Path, count: int) -> None:
    with _open_file(path) as file:
        shape = _read_shape(file, rank=3)
        if shape != [count, IMAGE_SIZE, IMAGE_SIZE]:
            raise ValueError(
                f"its shape is {shape}, and there are {count} labels of 28 x 28 images"
            )


def _read_pixels(path: Path, positions: range) -> Pixels:
    with _open_file(path) as file:
        file.seek(16 + positions.start * IMAGE_SIZE * IMAGE_SIZE)
        pixels = _read_bytes(file, len(positions) * IMAGE_SIZE * IMAGE_SIZE)
    return pixels.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE)
