"""Fashion-MNIST: IDX files wherever they lie, packed or not, and the images that are bundled."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from official_files import CLOTHES, SHARED, clothes, fashion, idx, write_fashion
from scoreag.data import fashion_mnist
from scoreag.data import loading as data

DEBIAN = fashion_mnist._DEBIAN_FOLDER
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("inside", ["", "fashion-mnist"])
@pytest.mark.parametrize("split, part", [("train", "train"), ("test", "t10k")])
def test_images_and_labels_are_those_of_the_files(
    tmp_path: Path, packed: bool, inside: str, split: str, part: str
) -> None:
    write_fashion(tmp_path / inside, packed)
    came = data.load_dataset(f"fashion-mnist:{split}", tmp_path)
    np.testing.assert_array_equal(came.images[:, 0].numpy(), clothes(part))
    assert came.labels is not None and came.labels.tolist() == CLOTHES[part]
    assert came.images.shape[1:] == (1, 28, 28)
    assert [came.classes[i] for i in (0, 9)] == ["T-shirt/top", "Ankle boot"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_range_has_the_images_of_its_positions(tmp_path: Path, packed: bool) -> None:
    write_fashion(tmp_path, packed)
    came = data.load_dataset("fashion_mnist:test[1:3]", tmp_path)
    np.testing.assert_array_equal(came.images[:, 0].numpy(), clothes("t10k")[1:3])
    assert came.labels is not None and came.labels.tolist() == [9, 1]
    assert (came.image_ids, came.name) == ((1, 2), "fashion-mnist:test[1:3]")


def test_the_files_of_a_package_are_found(tmp_path: Path) -> None:
    write_fashion(tmp_path / "package", packed=True)
    (tmp_path / "empty").mkdir()
    assert len(data.load_dataset("fashion-mnist:test", tmp_path / "empty")) == 4


def _spoiled(name: str, content: bytes, folder: Path) -> None:
    write_fashion(folder, packed=False)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)


_PLAIN = fashion()


@pytest.mark.parametrize(
    "name, content, fault",
    [
        (LABELS, _PLAIN[IMAGES], "its magic number is 0x803, not 0x801"),
        (IMAGES, b"", "its magic number is 0x0, not 0x803"),
        (IMAGES, _PLAIN[IMAGES][:-1], "it breaks off 1 bytes before its end"),
        (LABELS, _PLAIN[LABELS][:-2], "it breaks off 2 bytes before its end"),
        (LABELS, idx(np.array([1, 2, 3], np.uint8)), r"shape is \[4, 28, 28\], and there are 3"),
        (IMAGES, idx(np.zeros((4, 32, 28), np.uint8)), r"its shape is \[4, 32, 28\]"),
        (LABELS, idx(np.array([1, 10, 3, 4], np.uint8)), r"its label 1 is 10, not 0\.\.9"),
        (LABELS, idx(np.array([], np.uint8)), "it has no labels"),
        (LABELS, idx(np.array([7, 2, 1, 0, 4, 1, 4, 9], np.uint8)), "labels of MNIST's digits"),
    ],
)
def test_a_spoiled_file_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, fault: str
) -> None:
    _spoiled(name, content, tmp_path)
    match = (
        rf"^\S+ubyte is no complete file of Fashion-MNIST: [^\n]*{fault}[^\n]*; remove it[^\n]*$"
    )
    with pytest.raises(ValueError, match=match):
        data.load_dataset("fashion-mnist:test", tmp_path)


@pytest.mark.parametrize("name", [LABELS, IMAGES])
@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda raw: raw[:-10], "end-of-stream"),
        (lambda raw: raw[:10] + b"\xff" * 20 + raw[30:], "Error -3"),
        (lambda raw: b"<html>" + raw, "Not a gzipped file"),
    ],
)
def test_a_spoiled_packed_file_is_refused_in_one_line(
    tmp_path: Path, name: str, spoil, fault: str
) -> None:
    write_fashion(tmp_path, packed=True)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    match = rf"^\S+ubyte\.gz is no complete file of Fashion-MNIST: [^\n]*{fault}[^\n]*$"
    with pytest.raises(ValueError, match=match):
        data.load_dataset("fashion-mnist:test", tmp_path)


def test_the_sample_has_four_images_a_class_and_needs_no_files(tmp_path: Path) -> None:
    came = data.load_dataset("fashion-mnist:sample")
    assert came.images.shape == (40, 1, 28, 28)
    assert came.labels is not None and torch.bincount(came.labels).tolist() == [4] * 10
    assert came.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # the published first ones
    assert not (tmp_path / "cache").exists()


def test_ids_in_the_sample_are_positions_in_the_test_split() -> None:
    came = data.load_dataset("fashion-mnist:sample[36:40]")
    assert came.image_ids == (39, 40, 46, 59)


def test_the_licence_of_the_sample_is_beside_it() -> None:
    text = fashion_mnist.SAMPLE_FILE.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in text and "Zalando SE" in text and "shall be included in all" in text


REAL = next((p for p in (SHARED / "fashion-mnist", DEBIAN) if p.is_dir()), None)


@pytest.mark.skipif(REAL is None, reason="no files of Fashion-MNIST here")
@pytest.mark.parametrize(
    "split, count, first, last, digest",
    [
        ("train", 60_000, [9, 0, 0, 3, 0], [5, 1, 3, 0, 5], "2e487a6c89124f78"),
        ("test", 10_000, [9, 2, 1, 1, 6], [9, 1, 8, 1, 5], "c867c93ff9536059"),
    ],
)
def test_the_real_images_are_read_as_they_lie(
    split: str, count: int, first: list[int], last: list[int], digest: str
) -> None:
    came = data.load_dataset(f"fashion-mnist:{split}", REAL)
    assert came.labels is not None
    assert (len(came), came.labels[:5].tolist(), came.labels[-5:].tolist()) == (count, first, last)
    assert hashlib.sha256(came.images.numpy().tobytes()).hexdigest().startswith(digest)


@pytest.mark.skipif(REAL is None, reason="no files of Fashion-MNIST here")
def test_the_sample_is_the_first_four_real_test_images_of_each_class() -> None:
    assert REAL is not None
    raw = gzip.decompress((REAL / f"{LABELS}.gz").read_bytes())[8:]
    places = sorted(i for c in range(10) for i in [j for j, b in enumerate(raw) if b == c][:4])
    came, whole = (
        data.load_dataset("fashion-mnist:sample"),
        data.load_dataset("fashion-mnist:test[0:60]", REAL),
    )
    assert list(came.image_ids) == places
    assert torch.equal(came.images, whole.images[places])
