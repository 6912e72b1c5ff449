"""CIFAR-100's two layouts, its fine and coarse classes, and a part of it that is no damage."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from official_files import CIFAR100, SHARED, planes, write_cifar100_binary, write_cifar100_python
from scoreag.data import loading as data

WRITERS = {"cifar-100-binary": write_cifar100_binary, "cifar-100-python": write_cifar100_python}

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("inside", ["", "official"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_both_layouts_hold_the_planes_and_both_labels_as_written(
    tmp_path: Path, name: str, inside: str, split: str
) -> None:
    WRITERS[name](tmp_path / "root" / (name if inside else ""))
    coarse, fine = CIFAR100[split]
    came = data.load_dataset(f"cifar100:{split}", tmp_path / "root")
    assert came.images.numpy().tobytes() == planes(split).tobytes()
    assert came.labels is not None and came.labels.tolist() == fine
    by_group = data.load_dataset(f"cifar100:{split}-coarse", tmp_path / "root")
    assert by_group.labels is not None and by_group.labels.tolist() == coarse
    assert torch.equal(by_group.images, came.images)


@pytest.mark.parametrize("name", WRITERS)
def test_a_range_has_the_images_of_its_positions(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / "root")
    came = data.load_dataset("cifar100:train[1:3]", tmp_path / "root")
    assert came.images.numpy().tobytes() == planes("train")[1:3].tobytes()
    assert (came.image_ids, came.name) == ((1, 2), "cifar100:train[1:3]")


def test_the_test_split_with_fine_labels_is_meant_where_nothing_is_said(tmp_path: Path) -> None:
    write_cifar100_binary(tmp_path / "root")
    came = data.load_dataset("cifar100", tmp_path / "root")
    assert [came.classes[label] for label in came.labels.tolist()] == ["dolphin", "bicycle"]
    came = data.load_dataset("cifar100:test-coarse", tmp_path / "root")
    assert [came.classes[i] for i in came.labels.tolist()] == ["fish", "vehicles_1"]


@pytest.mark.parametrize("cut, whole", [(1, 1), (3073, 1), (3075, 0)])
def test_a_part_of_a_record_is_refused_in_one_line(tmp_path: Path, cut: int, whole: int) -> None:
    write_cifar100_binary(tmp_path / "root")
    path = tmp_path / "root" / "test.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    fault = rf"^\S+test\.bin breaks off: after {whole} complete records of 3074 bytes come [^\n]*$"
    with pytest.raises(ValueError, match=fault):
        data.load_dataset("cifar100:test", tmp_path / "root")


def test_whole_records_are_taken_and_their_count_is_the_count(tmp_path: Path) -> None:
    write_cifar100_binary(tmp_path / "root")
    path = tmp_path / "root" / "train.bin"
    path.write_bytes(path.read_bytes()[:-3074])
    assert len(data.load_dataset("cifar100:train", tmp_path / "root")) == 2
    with pytest.raises(ValueError, match=r"has 2 images; \[0:3\] is no part of them"):
        data.load_dataset("cifar100:train[0:3]", tmp_path / "root")


@pytest.mark.parametrize("count", [0, 10_001])
def test_no_images_or_more_than_there_are_is_refused(tmp_path: Path, count: int) -> None:
    with (tmp_path / "test.bin").open("wb") as file:
        file.truncate(count * 3074)
    with pytest.raises(ValueError, match=rf"has {count:,} images; expected 1 to 10,000: remove it"):
        data.load_dataset("cifar100:test[0]", tmp_path)


@pytest.mark.parametrize(
    "word, byte, fault",
    [("test", 1, r"image 1 has the label 100, not 0\.\.99"), ("test-coarse", 0, r"0\.\.19")],
)
def test_a_label_that_counts_no_class_is_refused(
    tmp_path: Path, word: str, byte: int, fault: str
) -> None:
    write_cifar100_binary(tmp_path / "root")
    with (tmp_path / "root" / "test.bin").open("r+b") as file:
        file.seek(3074 + byte)
        file.write(bytes([100 if byte else 20]))
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(f"cifar100:{word}", tmp_path / "root")


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"fine_labels": [1]}, r"fine_labels \(1,\); expected \(2, 3072\) uint8 and \(2,\)"),
        ({"fine_labels": [1, -1]}, r"its image 1 has the label -1, not 0\.\.99"),
        ({"coarse_labels": ["a", "b"]}, r"coarse_labels \(0,\)"),
        ({"data": [[1, 2], [3, 4]]}, r"no official batch: data \(0,\) float64"),
        ({"data": np.ones((2, 2), np.int64)}, r"no official batch: data \(2, 2\) int64"),
    ],
)
def test_a_pickle_of_another_content_is_refused_in_one_line(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    good = {"data": planes("test"), "coarse_labels": [1, 2], "fine_labels": [3, 4]}
    (tmp_path / "test").write_bytes(pickle.dumps(good | change))
    with pytest.raises(ValueError, match=rf"^\S+test [^\n]*{fault}[^\n]*$"):
        data.load_dataset("cifar100:test", tmp_path)


REAL = SHARED / "cifar-100-binary"


@pytest.mark.skipif(not REAL.is_dir(), reason="no real images of CIFAR-100 here")
@pytest.mark.parametrize(
    "split, count, first, last, digest",
    [
        ("train", 1117, [19, 29, 0, 11, 1], [92, 38, 8, 90, 15], "59d336cbf53122a5"),
        ("test", 916, [49, 33, 72, 51, 71], [39, 8, 56, 59, 15], "f74ce5a94321ec2f"),
    ],
)
def test_the_real_images_are_read_as_they_lie(
    split: str, count: int, first: list[int], last: list[int], digest: str
) -> None:
    came = data.load_dataset(f"cifar100:{split}", SHARED)
    assert came.labels is not None
    assert (len(came), came.labels[:5].tolist()) == (count, first)
    assert came.labels[-5:].tolist() == last
    raw = (REAL / f"{split}.bin").read_bytes()
    pixels = b"".join(raw[i * 3074 + 2 : (i + 1) * 3074] for i in range(count))
    assert came.images.numpy().tobytes() == pixels
    assert hashlib.sha256(pixels).hexdigest().startswith(digest)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real images of CIFAR-100 here")
@pytest.mark.parametrize("word, kind", [("test", "fine"), ("test-coarse", "coarse")])
def test_the_names_are_those_that_are_published(word: str, kind: str) -> None:
    published = (REAL / f"{kind}_label_names.txt").read_text().split()
    assert list(data.load_dataset(f"cifar100:{word}", SHARED).classes) == published
