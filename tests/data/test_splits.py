"""Splits of a data set: every image in one part, by its content, and a part of each class."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from scoreag.core.rng import Stream
from scoreag.data import footprint
from scoreag.data.footprint import check_memory, estimate_bytes
from scoreag.data.loading import Dataset, load_dataset
from scoreag.data.splits import HELD_OUT, TEST, TRAIN, split, write_splits
from scoreag.io.images import write_png

CLASSES = ("cat", "dog", "ship")


def data(counts=(40, 30, 10), seed=0):
    """Random images of 3 x 4 x 4, all different."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pixels = Stream(seed).integers(256, (len(labels), 3, 4, 4)).to(torch.uint8)
    return Dataset(pixels, labels, tuple(range(len(labels))), CLASSES, "npz:mine")


def contents(part):
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(
        part.images, part.labels, strict=True)]  # fmt: skip


def test_every_image_is_in_exactly_one_part():
    whole = data()
    parts = split(whole)
    assert list(parts) == [TRAIN, HELD_OUT, TEST]
    together = [one for part in parts.values() for one in contents(part)]
    assert sorted(together) == sorted(contents(whole))


def test_each_class_has_its_share_of_each_part():
    """A tenth, at least three for tests and at least one held out."""
    parts = split(data())
    assert {name: tuple(part.counts.values()) for name, part in parts.items()} == {
        TRAIN: (32, 24, 6), HELD_OUT: (4, 3, 1), TEST: (4, 3, 3),
    }  # fmt: skip


def test_the_order_of_the_images_does_not_matter():
    whole = data()
    order = Stream(1).permutation(len(whole)).tolist()
    one, other = split(whole), split(whole.select(order))
    for name in one:
        assert contents(one[name]) == contents(other[name])


def test_another_class_does_not_move_an_image():
    two = data().select(range(70))
    one, other = split(replace(two, classes=CLASSES[:2])), split(data())
    for name in one:
        assert set(contents(one[name])) <= set(contents(other[name]))


def test_equal_images_are_in_one_part():
    """Each image twice, as in a folder with copies: no test image is trained on."""
    whole = data()
    parts = split(whole.select([*range(len(whole)), *range(len(whole))]))
    sets = [set(contents(part)) for part in parts.values()]
    assert sum(map(len, sets)) == len(set().union(*sets)) == len(whole)
    assert Counter(contents(parts[TEST])).most_common(1)[0][1] == 2


def test_given_test_images_leave_the_rest_for_training():
    parts, other = split(data(), data(seed=1)), data(seed=1)
    assert contents(parts[TEST]) == contents(other)
    assert tuple(parts[TRAIN].counts.values()) == (36, 27, 9)
    assert tuple(parts[HELD_OUT].counts.values()) == (4, 3, 1)


@pytest.mark.parametrize(
    "counts, message",
    [
        ((40, 9, 10), "the class dog of npz:mine has 9 different images; expected 10 or more"),
        ((40, 0, 1), r"the class dog of npz:mine has 0 different images \(and 1 more classes"),
    ],
)
def test_a_class_of_few_images_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        split(data(counts))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda one: replace(one, labels=None), "has no labels"),
        (lambda one: one.select(range(40)), "has no image of dog, ship; give test images of every"),
        (
            lambda one: replace(one, images=one.images[:, :1]),
            "images of 1 x 4 x 4, and npz:mine",
        ),
    ],
)
def test_test_images_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(ValueError, match=message):
        split(data(), spoil(data(seed=1)))


def test_written_parts_are_read_as_they_were(tmp_path):
    parts = split(data())
    write_splits(parts, tmp_path)
    for name, part in parts.items():
        read = load_dataset(f"npz:{tmp_path / f'{name}.npz'}")
        assert contents(read) == contents(part) and read.classes == CLASSES
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    assert len(lines) == 81
    first = parts[TRAIN]
    assert lines[1] == f"train,0,{CLASSES[first.labels[0]]},{first.image_ids[0]}"


@pytest.fixture
def folder(tmp_path):
    """Five images of 3 x 6 x 6."""
    for i in range(5):
        place = tmp_path / CLASSES[i % 2]
        place.mkdir(exist_ok=True)
        write_png(place / f"{i}.png", torch.full((3, 6, 6), 40 * i, dtype=torch.uint8))
    return tmp_path


def test_the_bytes_of_a_folder_are_known_before_it_is_read(folder):
    assert estimate_bytes(f"image-folder:{folder}") == 5 * 3 * 6 * 6
    assert estimate_bytes(str(folder), (2, 2)) == 5 * 3 * 2 * 2
    assert estimate_bytes(f"image-folder:{folder}[0:2]") is None
    assert estimate_bytes("cifar10:train") is None


def test_images_that_do_not_fit_into_the_memory_are_refused(folder, monkeypatch):
    monkeypatch.setattr(footprint, "free_memory", lambda: 5 * 3 * 6 * 6 * 2)
    with pytest.raises(ValueError, match="give fewer images, or a smaller --size"):
        check_memory(f"image-folder:{folder}")
    check_memory(f"image-folder:{folder}", (4, 4))


def test_the_free_memory_is_at_most_that_of_the_container(tmp_path, monkeypatch):
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal: 9 kB\nMemAvailable:       7 kB\n")
    monkeypatch.setattr(footprint, "MEMORY_INFO", info)
    monkeypatch.setattr(footprint, "MEMORY_LIMIT", limit)
    assert footprint.free_memory() == 7 * 1024
    limit.write_text("2000\n")
    assert footprint.free_memory() == 2000
    limit.write_text("max\n")
    assert footprint.free_memory() == 7 * 1024
