"""CIFAR-10, CIFAR-100 with 100 fine or 20 coarse classes, and the CIFAR-10 images in foolbox."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoreag.data.source import Labels, OfficialDataset, Pixels, Source
from scoreag.io.images import read_png
from scoreag.io.safe_unpickler import load_pickle

# fmt: off
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)
FINE_CLASSES = (
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
COARSE_GROUPS = {  # the five fine classes of each
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
COARSE_CLASSES = tuple(COARSE_GROUPS)
# fmt: on
CIFAR10_FILES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
CIFAR100_COUNTS = {"train": 50_000, "test": 10_000}  # images of the full splits
IMAGE_BYTES = 3 * 32 * 32

_IMAGES_PER_FILE = 10_000  # of CIFAR-10

_Bytes = NDArray[np.uint8]
_Integers = NDArray[np.int64]
_Read = Callable[[range], tuple[_Bytes, _Integers]]


def _find(
    binary: str, python: str, names: Callable[[str], Sequence[str]], folder: Path, split: str
) -> list[Path] | None:
    """The files of a split in one of the two official layouts; None if one is missing."""
    for layout, suffix in ((binary, ".bin"), (python, "")):
        for place in (folder / layout, folder):
            files = [place / f"{name}{suffix}" for name in names(split)]
            if all(file.is_file() for file in files):
                return files
    return None


def _open_cifar10(files: list[Path], split: str, progress: bool) -> Source:
    """Reads only those files that hold images of the range."""

    def read(positions: range) -> tuple[Pixels, Labels]:
        parts = []
        for i, path in enumerate(files):
            start = i * _IMAGES_PER_FILE
            stop = min(positions.stop - start, _IMAGES_PER_FILE)
            if inside := range(max(0, positions.start - start), stop):
                _, read_rows = _open_file(path, ["labels"], _IMAGES_PER_FILE)
                parts.append(_read_checked(path, read_rows, 0, CIFAR10_CLASSES, inside))
        images, labels = zip(*parts, strict=True)
        return torch.cat(images), torch.cat(labels)

    count = len(files) * _IMAGES_PER_FILE
    return Source(count, read, range(count), CIFAR10_CLASSES)


def _open_cifar100(files: list[Path], split: str, progress: bool) -> Source:
    """A file may hold only some of the images: as many as it has complete records."""
    (path,), full = files, CIFAR100_COUNTS[split.removesuffix("-coarse")]
    count, read_rows = _open_file(path, ["coarse_labels", "fine_labels"])
    if not 1 <= count <= full:
        raise ValueError(
            f"{path} has {count:,} images; expected 1 to {full:,}: "
            "remove it, and the official one is fetched"
        )
    column, classes = (0, COARSE_CLASSES) if split.endswith("-coarse") else (1, FINE_CLASSES)
    read = partial(_read_checked, path, read_rows, column, classes)
    return Source(count, read, range(count), classes)


def _read_checked(
    path: Path, read: _Read, column: int, classes: Sequence[str], positions: range
) -> tuple[Pixels, Labels]:
    images, all_labels = read(positions)
    labels, n_classes = all_labels[:, column], len(classes)
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        place, label = positions[wrong[0]], labels[wrong[0]]
        raise ValueError(
            f"{path} is damaged: its image {place} has the label {label}, not 0..{n_classes - 1}"
        )
    return torch.from_numpy(images.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels.copy())


def _open_file(path: Path, keys: Sequence[str], count: int | None = None) -> tuple[int, _Read]:
    """The number of images in a file, and a function that reads a range of images and labels.

    A ``.bin`` file holds records: a byte for each label, then the red, green and blue planes.
    Other files are a pickled dictionary of ``data``, uint8 rows of 3072, and of lists of labels.

    Args:
        keys: the names of the labels; the columns of the labels that are read.
        count: the expected number of images; None accepts any.
    """
    if path.suffix == ".bin":
        return _count_records(path, len(keys), count), partial(_read_records, path, len(keys))
    images, labels = _read_pickle(path, keys, count)
    return len(images), lambda at: (images[at.start : at.stop], labels[at.start : at.stop])


def _count_records(path: Path, n_labels: int, expected: int | None) -> int:
    record, size = n_labels + IMAGE_BYTES, path.stat().st_size
    count, rest = divmod(size, record)
    if expected is not None and size != expected * record:
        raise ValueError(
            f"{path} has {size:,} bytes, not {expected * record:,} ({expected:,} records of "
            f"{record}): remove it, and the official one is fetched"
        )
    if rest:
        raise ValueError(
            f"{path} breaks off: after {count:,} complete records of {record} bytes come "
            f"{rest:,}; remove it, and the official one is fetched"
        )
    return count


def _read_records(path: Path, n_labels: int, positions: range) -> tuple[_Bytes, _Integers]:
    size = n_labels + IMAGE_BYTES
    data = np.fromfile(path, np.uint8, len(positions) * size, offset=positions.start * size)
    rows = data.reshape(len(positions), size)
    return rows[:, n_labels:], rows[:, :n_labels].astype(np.int64)


def _read_pickle(path: Path, keys: Sequence[str], count: int | None) -> tuple[_Bytes, _Integers]:
    content = load_pickle(path)
    content = content if isinstance(content, dict) else {}
    named = {k.decode("latin1") if isinstance(k, bytes) else k: content[k] for k in content}
    stored = named.get("data")
    # np.array of an untrusted list may need any amount of memory
    data: NDArray[Any] = stored if isinstance(stored, np.ndarray) else np.empty(0)
    expected = count or len(data)
    columns = [_to_integers(named.get(key)) for key in keys]
    good = data.shape == (expected, IMAGE_BYTES) and data.dtype == np.uint8
    if not good or any(column.shape != (expected,) for column in columns):
        found = ", ".join(f"{k} {column.shape}" for k, column in zip(keys, columns, strict=True))
        raise ValueError(
            f"{path} is no official batch: data {data.shape} {data.dtype}, {found}; "
            f"expected ({expected}, {IMAGE_BYTES}) uint8 and ({expected},)"
        )
    return data, np.stack(columns, axis=1)


def _to_integers(labels: Any) -> _Integers:
    """A list of integers as an array; an empty array for anything else."""
    valid = isinstance(labels, list) and all(
        type(label) is int and abs(label) < 1 << 31 for label in labels
    )
    return np.array(labels if valid else [], np.int64)


def load_foolbox_samples(split_name: str = "") -> Source:
    """The first 20 images of the test split, whose file names hold position and label."""
    if split_name:
        raise ValueError(
            "foolbox-samples has no splits: write 'foolbox-samples', not "
            f"'foolbox-samples:{split_name}'"
        )
    spec = find_spec("foolbox")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(path for f in folders for path in Path(f, "data").glob("cifar10_*_*.png"))
    if not files:
        raise ValueError(
            "foolbox-samples are in the package foolbox: pip install 'scoreag[foolbox]'"
        )
    ids, labels = zip(*(map(int, path.stem.split("_")[1:3]) for path in files), strict=True)

    def read(positions: range) -> tuple[Pixels, Labels]:
        pixels = torch.stack([read_png(files[i]) for i in positions])
        return pixels, torch.tensor([labels[i] for i in positions])

    return Source(len(files), read, ids, CIFAR10_CLASSES)


CIFAR10 = OfficialDataset(
    name="cifar10",
    title="CIFAR-10",
    splits=("train", "test"),
    url="https://www.cs.toronto.edu/~kriz",
    digests={
        "cifar-10-binary.tar.gz":
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    find=partial(_find, "cifar-10-batches-bin", "cifar-10-batches-py", CIFAR10_FILES.__getitem__),
    open=_open_cifar10,
    archive_folder="cifar-10-batches-bin",
    members=(
        *(f"{name}.bin" for names in CIFAR10_FILES.values() for name in names),
        "batches.meta.txt",
    ),
    CLASSES=CIFAR10_CLASSES,
)  # fmt: skip
CIFAR100 = OfficialDataset(
    name="cifar100",
    title="CIFAR-100",
    splits=("train", "test", "train-coarse", "test-coarse"),
    url="https://www.cs.toronto.edu/~kriz",
    digests={
        "cifar-100-binary.tar.gz":
        "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    },
    find=partial(
        _find, "cifar-100-binary", "cifar-100-python", lambda split: [split.removesuffix("-coarse")]
    ),
    open=_open_cifar100,
    archive_folder="cifar-100-binary",
    members=("train.bin", "test.bin", "fine_label_names.txt", "coarse_label_names.txt"),
    CLASSES=FINE_CLASSES,
)  # fmt: skip
FOOLBOX_SAMPLES = SimpleNamespace(load=load_foolbox_samples, CLASSES=CIFAR10_CLASSES)
