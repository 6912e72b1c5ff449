"""CIFAR-100, 100 fine or 20 coarse classes: the official files or the first part of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from scoreag.data.cifar10 import (
    IMAGE_BYTES,
    ByteArray,
    IntArray,
    check_labels,
    download_archive,
    read_pickled_batch,
    read_records,
    to_pixels,
)
from scoreag.data.source import Labels, Pixels, Source, find_or_download, pick_split, resolve_url
from scoreag.io.filesystem import data_folder

# fmt: off
FINE = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)
COARSE = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)
# fmt: on
CLASSES = FINE  # unless the coarse ones are asked for
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
DIGEST = "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
SPLITS = {"train": 50_000, "test": 10_000}  # the images of the whole

_BINARY, _PYTHON = "cifar-100-binary", "cifar-100-python"
_RECORD_BYTES = 2 + IMAGE_BYTES
_FILE_NAMES = ["train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"]

_Read = Callable[[range], tuple[ByteArray, IntArray]]


def load(
    split_name: str,
    data_dir: str | Path | None = None,
    url: str | None = None,
    progress: bool = True,
) -> Source:
    """The split "train" or "test"; "train-coarse", "test-coarse" with coarse labels; "" is "test".

    A file may hold some of the images only: there are as many as it has records, all whole.

    Args:
        data_dir: holds the files, or one of the official folders that hold them; as in
            ``find_or_download``.
        url: of the archive or of the folder it is in; else SCOREAG_CIFAR100_URL, else the official.
    """
    word = pick_split(
        [*SPLITS, *(f"{split}-coarse" for split in SPLITS)], split_name or "test", "cifar100"
    )
    split, coarse, _ = word.partition("-coarse")

    def bring(folder: Path) -> None:
        place = resolve_url(URL, "SCOREAG_CIFAR100_URL", url)
        download_archive(
            place, folder / Path(URL).name, DIGEST, folder / _BINARY, _FILE_NAMES, progress
        )

    path, lie = find_or_download("CIFAR-100", data_dir, partial(_find_file, split), bring)
    count, read = lie(path)
    if not 1 <= count <= SPLITS[split]:
        raise ValueError(
            f"{path} has {count:,} images; expected 1 to {SPLITS[split]:,}: "
            "remove it, and the official one is fetched"
        )
    column, classes = (0, COARSE) if coarse else (1, FINE)
    return Source(count, partial(_read_images, path, read, column, classes), range(count), classes)


_Open = Callable[[Path], tuple[int, _Read]]


def is_cached(split_name: str, data_dir: str | Path | None = None) -> bool:
    """Whether the file of a split is there, so that nothing need be fetched."""
    split = (split_name or "test").removesuffix("-coarse")
    return (
        _find_file(pick_split(SPLITS, split, "cifar100"), data_folder(data_dir, "CIFAR-100"))
        is not None
    )


def _find_file(split: str, folder: Path) -> tuple[Path, _Open] | None:
    """The file of a split and how to open it, or None if there is none."""
    layouts: list[tuple[str, str, _Open]] = [
        (_BINARY, ".bin", _open_binary),
        (_PYTHON, "", _open_pickle),
    ]
    for name, suffix, lie in layouts:
        for place in (folder / name, folder):
            if (place / f"{split}{suffix}").is_file():
                return place / f"{split}{suffix}", lie
    return None


def _open_binary(path: Path) -> tuple[int, _Read]:
    """Records of the coarse label, the fine label and the pixels; a part of one is refused."""
    count, rest = divmod(path.stat().st_size, _RECORD_BYTES)
    if rest:
        raise ValueError(
            f"{path} breaks off: after {count:,} whole records of {_RECORD_BYTES} bytes come "
            f"{rest:,}; remove it, and the official one is fetched"
        )
    return count, partial(read_records, path, 2)


def _open_pickle(path: Path) -> tuple[int, _Read]:
    """A pickled dictionary, of which no part can be read alone."""
    images, labels = read_pickled_batch(path, ["coarse_labels", "fine_labels"])
    return len(images), lambda at: (images[at.start : at.stop], labels[at.start : at.stop])


def _read_images(
    path: Path, read: _Read, column: int, classes: tuple[str, ...], positions: range
) -> tuple[Pixels, Labels]:
    images, labels = read(positions)
    check_labels(path, labels[:, column], positions, len(classes))
    return to_pixels(images.copy()), torch.from_numpy(labels[:, column].copy())
