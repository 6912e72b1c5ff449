"""Train, held-out and test images of one data set; only its content decides where an image goes."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from scoreag.data.loading import Dataset
from scoreag.io.filesystem import atomic_write, write_text

TRAIN, HELD_OUT, TEST = "train", "held-out", "test"
FRACTION = 0.1  # of each class that is held out, and that is tested on
MIN_TEST = 3  # test images of a class
MIN_PER_CLASS = 10  # different images of a class, so that most of them are trained on
LISTING = "splits.csv"
SPLIT_FILES = (LISTING, *(f"{name}.npz" for name in (TRAIN, HELD_OUT, TEST)))


def split(data: Dataset, test_data: Dataset | None = None) -> dict[str, Dataset]:
    """The parts of ``data`` by name, about 80, 10 and 10 percent of each class.

    The different images of a class are sorted by the digest of their pixels; the first are test
    images, the next are held out.  So neither names nor order matter, and equal images of a class
    are in one part.  The parts are sorted by the digest, too.

    Args:
        test_data: the test images; no image of ``data`` is then one.

    Raises:
        ValueError: a class has too few images, or none in ``test_data``.
    """
    assert data.labels is not None
    digests = [blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in data.images]
    by_class: defaultdict[int, set[bytes]] = defaultdict(set)
    for digest, label in zip(digests, data.labels.tolist(), strict=True):
        by_class[label].add(digest)
    _check_counts(data, {name: len(by_class[i]) for i, name in enumerate(data.classes)})
    part_of: dict[tuple[int, bytes], str] = {}
    for label, different in by_class.items():
        n_test = 0 if test_data else max(MIN_TEST, round(FRACTION * len(different)))
        n_known = n_test + math.ceil(FRACTION * len(different))
        for rank, digest in enumerate(sorted(different)):
            name = TEST if rank < n_test else HELD_OUT if rank < n_known else TRAIN
            part_of[label, digest] = name
    rows: defaultdict[str, list[int]] = defaultdict(list)
    labels = data.labels.tolist()
    for row in sorted(range(len(data)), key=lambda row: (digests[row], labels[row])):
        rows[part_of[labels[row], digests[row]]].append(row)
    parts = {name: _part(data, rows[name], name) for name in (TRAIN, HELD_OUT)}
    if test_data is not None:
        _check_test_data(test_data, data)
        return {**parts, TEST: test_data}
    return {**parts, TEST: _part(data, rows[TEST], TEST)}


def _part(data: Dataset, rows: list[int], name: str) -> Dataset:
    return replace(data.select(rows), name=f"{data.name}, {name}")


def _check_counts(data: Dataset, different: Mapping[str, int]) -> None:
    """Refuse a class that is too small to be split."""
    few = {name: count for name, count in different.items() if count < MIN_PER_CLASS}
    for name, count in few.items():
        others = f" (and {len(few) - 1} more classes have too few)" if len(few) > 1 else ""
        raise ValueError(
            f"the class {name} of {data.name} has {count} different images{others}; expected "
            f"{MIN_PER_CLASS} or more: add images, or leave the class out by --classes"
        )


def _check_test_data(test_data: Dataset, data: Dataset) -> None:
    """Refuse test images of another shape, without labels, or that lack a class."""
    if test_data.labels is None:
        raise ValueError(f"{test_data.name} has no labels; test images need them")
    shapes = [" x ".join(map(str, one.images.shape[1:])) for one in (test_data, data)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{test_data.name} has images of {shapes[0]}, and {data.name} of {shapes[1]}; "
            "write --size, or give other test data"
        )
    present = set(test_data.labels.tolist())
    missing = [name for i, name in enumerate(data.classes) if i not in present]
    if missing:
        raise ValueError(
            f"{test_data.name} has no image of {', '.join(missing[:5])}; give test images of "
            "every class, or leave out --test-data: a tenth of --data is then tested on"
        )


def write_splits(parts: Mapping[str, Dataset], folder: Path) -> None:
    """Write NAME.npz of each part, and splits.csv, which says where each image comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    listing = io.StringIO()
    table = csv.writer(listing, lineterminator="\n")
    table.writerow(["split", "position", "class", "source"])
    for name, data in parts.items():
        assert data.labels is not None
        arrays = {
            "images": data.images.numpy(), "labels": data.labels.numpy(),
            "classes": np.array(data.classes),
        }  # fmt: skip
        atomic_write(folder / f"{name}.npz", partial(_save, arrays))
        sources = data.files or data.image_ids
        for position, (label, source) in enumerate(zip(data.labels.tolist(), sources, strict=True)):
            table.writerow([name, position, data.classes[label], source])
    write_text(folder / LISTING, listing.getvalue())


def _save(arrays: Mapping[str, Any], path: Path) -> None:
    with path.open("wb") as file:  # given a path, numpy would add a suffix to it
        np.savez(file, **arrays)
