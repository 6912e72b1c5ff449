"""CIFAR-10's two official layouts give the same images; spoiled files are refused."""

from pathlib import Path

import pytest
import torch

from cifar_files import WRITERS, batch, python2, write_binary
from scoreag.data import loading as data

RED, GREEN, BLUE = 0, 1024, 2048  # where the planes of an image begin


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("inside", ["", "official"])
@pytest.mark.usefixtures("small")
def test_both_layouts_hold_the_planes_and_labels_as_written(
    tmp_path: Path, name: str, inside: str
) -> None:
    WRITERS[name](tmp_path / "root" / (name if inside else ""))
    train = data.load_dataset("cifar10:train", tmp_path / "root")
    assert train.images.shape == (20, 3, 32, 32)
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7]
    image = batch(2)[1][3 * 3072 : 4 * 3072]  # the last of the third file
    assert train.images[11, :, 1, 2].tolist() == [image[p + 32 + 2] for p in (RED, GREEN, BLUE)]


@pytest.mark.usefixtures("small")
def test_both_layouts_give_the_same_tensors(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name[-3:] / name)
    binary, python = (
        data.load_dataset("cifar10:train[2:11]", tmp_path / n) for n in ("bin", "-py")
    )
    assert torch.equal(binary.images, python.images)
    assert binary.sha256 == python.sha256
    assert binary.image_ids == python.image_ids == tuple(range(2, 11))


@pytest.mark.usefixtures("small")
def test_only_the_files_of_the_range_are_read(tmp_path: Path) -> None:
    write_binary(tmp_path / "root")
    for name in ("data_batch_1", "data_batch_3", "data_batch_4"):
        (tmp_path / "root" / f"{name}.bin").write_bytes(b"")
    assert data.load_dataset("cifar10:train[4:8]", tmp_path / "root").image_ids == (4, 5, 6, 7)


@pytest.mark.parametrize("first, last", [(0, 1), (3, 5), (9, 15), (14, 15), (17, 20)])
@pytest.mark.usefixtures("small")
def test_a_range_across_files_has_the_pixels_of_its_positions(
    tmp_path: Path, first: int, last: int
) -> None:
    write_binary(tmp_path / "root")
    came = data.load_dataset(f"cifar10:train[{first}:{last}]", tmp_path / "root")
    whole = b"".join(batch(number)[1] for number in range(5))
    assert came.images.numpy().tobytes() == whole[first * 3072 : last * 3072]


@pytest.mark.usefixtures("small")
def test_the_environment_says_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_binary(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("SCOREAG_DATA", str(tmp_path))
    assert len(data.load_dataset("cifar10")) == 4  # the test split, where none is named


def test_the_official_size_has_10_000_images_a_file(tmp_path: Path) -> None:
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(30_730_000)  # sparse: images of zeros
        file.seek(9_999 * 3073)
        file.write(b"\x07\xff")
    last = data.load_dataset("cifar10:test[9999]", tmp_path)
    assert last.labels is not None
    assert last.labels.tolist() == [7]
    assert last.images.nonzero().tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("size", [0, 30_729_999, 30_730_000 - 3073, 30_730_001])
def test_a_file_of_another_size_is_refused_in_one_line(tmp_path: Path, size: int) -> None:
    with (tmp_path / "test_batch.bin").open("wb") as file:
        file.truncate(size)
    fault = rf"^\S+test_batch\.bin has {size:,} bytes, not 30,730,000 [^\n]*remove it[^\n]*$"
    with pytest.raises(ValueError, match=fault):
        data.load_dataset("cifar10:test[0:2]", tmp_path)


@pytest.mark.usefixtures("small")
def test_a_label_above_9_is_refused_with_its_place(tmp_path: Path) -> None:
    write_binary(tmp_path / "root")
    with (tmp_path / "root" / "test_batch.bin").open("r+b") as file:
        file.seek(2 * 3073)
        file.write(b"\x0b")
    with pytest.raises(ValueError, match=r"its image 2 has the label 11, not 0\.\.9"):
        data.load_dataset("cifar10:test[1:4]", tmp_path / "root")


def _spoiled(kind: str) -> bytes:
    labels, pixels = batch(5)
    return {
        "cut": python2(labels, pixels)[:-500],
        "short": python2(labels[:3], pixels[: 3 * 3072]),
        "code": python2(labels, pixels)[:-1] + b"cposix\nsystem\nU\x04true\x85R.",
        "list": b"].",
    }[kind]


@pytest.mark.parametrize(
    "kind, fault",
    [
        ("cut", "is no plain pickle"),
        ("short", r"is no official batch: data \(3, 3072\) uint8"),
        ("code", r"it asks for posix\.system; nothing of it was run"),
        ("list", "is no official batch"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_spoiled_pickle_is_refused_in_one_line(tmp_path: Path, kind: str, fault: str) -> None:
    (tmp_path / "test_batch").write_bytes(_spoiled(kind))
    with pytest.raises(ValueError, match=rf"^\S+test_batch [^\n]*{fault}[^\n]*$"):
        data.load_dataset("cifar10:test", tmp_path)
