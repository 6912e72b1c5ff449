"""Tiny ImageNet from its zip and from its folder: the same images; what is spoiled is refused."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from official_files import SHARED, TRAIN, VAL, jpeg, tiny, write_tiny_folder, write_tiny_zip
from scoreag.data import loading as data

pytestmark = pytest.mark.usefixtures("offline")

Write = Callable[[Path, dict[str, bytes]], None]


@pytest.fixture(params=[write_tiny_folder, write_tiny_zip], ids=["folder", "zip"])
def write(request: pytest.FixtureRequest) -> Write:
    return request.param


def grays(came: data.Dataset) -> list[int]:
    return came.images[:, 0, 10, 20].tolist()


def test_train_is_read_class_by_class_in_the_order_of_numbers(tmp_path: Path, write: Write) -> None:
    write(tmp_path, tiny())
    came = data.load_dataset("tiny-imagenet:train", tmp_path)
    assert came.images.shape == (6, 3, 64, 64)
    assert grays(came) == [30, 32, 31, 10, 20, 21]
    assert came.labels is not None and came.labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert came.files[2] == "train/n03/images/n03_10.JPEG"


@pytest.mark.parametrize("split", [":val", ":test", ""])
def test_val_is_read_as_annotated_and_is_the_test_set(
    tmp_path: Path, write: Write, split: str
) -> None:
    write(tmp_path, tiny())
    came = data.load_dataset(f"tiny-imagenet{split}", tmp_path)
    assert grays(came) == [120, 130, 122]
    assert came.labels is not None and came.labels.tolist() == [2, 0, 2]
    assert came.files == tuple(f"val/images/{name}.JPEG" for name, _, _ in VAL)


def test_a_class_has_its_first_word_and_a_second_where_that_is_taken(
    tmp_path: Path, write: Write
) -> None:
    files = tiny()
    files["wnids.txt"] += b"\nn05\nn06\n"
    files["words.txt"] += b"n05\tcrane, derrick\nn06\tcrane, derrick\n"
    write(tmp_path, files)
    classes = data.load_dataset("tiny-imagenet:val", tmp_path).classes
    assert classes == ("goldfish", "crane", "crane (n02)", "crane (derrick)", "crane (n06)")


def test_a_grey_picture_becomes_rgb(tmp_path: Path, write: Write) -> None:
    write(tmp_path, tiny())
    assert TRAIN["n02"][1] == 21  # the one that is written gray
    last = data.load_dataset("tiny-imagenet:train[5]", tmp_path)
    assert last.images[0, :, 0, 0].tolist() == [21, 21, 21]


def test_the_folder_itself_is_a_root_and_an_underscore_a_dash(tmp_path: Path) -> None:
    write_tiny_folder(tmp_path, tiny())
    came = data.load_dataset("tiny_imagenet:train[0:2]", tmp_path / "tiny-imagenet-200")
    assert (came.name, grays(came)) == ("tiny-imagenet:train[0:2]", [30, 32])


def test_only_the_pictures_of_the_range_are_decoded(tmp_path: Path, write: Write) -> None:
    files = tiny()
    spoiled = [name for name in files if name.endswith("JPEG") and "n01" not in name]
    write(tmp_path, files | dict.fromkeys(spoiled, b"no picture"))
    assert grays(data.load_dataset("tiny-imagenet:train[3]", tmp_path)) == [10]
    with pytest.raises(ValueError, match=r"n02_0\.JPEG is no complete JPEG"):
        data.load_dataset("tiny-imagenet:train[4]", tmp_path)


def _without(word: str) -> dict[str, bytes]:
    return {name: content for name, content in tiny().items() if word not in name}


def _with(name: str, content: bytes) -> dict[str, bytes]:
    return tiny() | {name: content}


_TABLE, _FIRST = "val/val_annotations.txt", "train/n03/images/n03_0.JPEG"
_LINES = tiny()[_TABLE]


@pytest.mark.parametrize(
    "split, files, fault",
    [
        ("val", _without("words"), r"has no words\.txt: it is not Tiny ImageNet as published"),
        ("val", _without("annotations"), r"has no val/val_annotations\.txt"),
        ("train", _without("train/n01"), "has no images in train/n01/images, a class of wnids"),
        ("train", _with("wnids.txt", b"n03\nn01"), r"the class n02, which is not in wnids\.txt"),
        ("val", _with("wnids.txt", b"n03\nn01\nn01"), r"wnids\.txt names a class twice"),
        ("val", _with("words.txt", b"n01\tcrane\n"), r"words\.txt has no name for the class n03"),
        ("val", _without("val_10"), r"line 2, names the image 'val_10\.JPEG', which is not in val"),
        ("val", _with(_TABLE, _LINES * 2), r"line 4, names the image 'val_0\.JPEG', .* twice"),
        ("val", _with(_TABLE, _LINES.replace(b"n03", b"n9")), r"line 2, names the class 'n9'"),
        ("val", _with(_TABLE, b"val_0.JPEG\n"), r"line 1, names the class '', which is not in"),
        ("val", _with(_TABLE, _LINES[:24]), r"has no line for val_10\.JPEG"),
        ("val", _without("val_") | {_TABLE: b""}, "has no images of the val split"),
        ("train", _with(_FIRST, jpeg(9, side=32)), "it is 32 x 32 pixels, not 64 x 64"),
        ("train", _with(_FIRST, jpeg(9)[:-60]), r"n03_0\.JPEG is no complete JPEG .*: .*truncated"),
        ("train", _with(_FIRST, b"GIF89a"), "cannot identify image file"),
    ],
)
def test_what_is_missing_or_spoiled_is_told_in_one_line(
    tmp_path: Path, write: Write, split: str, files: dict[str, bytes], fault: str
) -> None:
    write(tmp_path, files)
    place = r"tiny-imagenet-200(\.zip)?"
    with pytest.raises(ValueError, match=rf"^[^\n]*{place}[^\n]*{fault}[^\n]*$"):
        data.load_dataset(f"tiny-imagenet:{split}", tmp_path)


REAL = SHARED / "tiny-imagenet-200.zip"


def official(archive: zipfile.ZipFile, split: str) -> list[int]:
    """The labels of a split by the archive's own tables: classes in the order of wnids.txt, the
    validation images by their number."""
    root = "tiny-imagenet-200"
    wnids = archive.read(f"{root}/wnids.txt").decode().split()
    if split == "train":
        of = [n.split("/")[2] for n in archive.namelist() if n.endswith(".JPEG") and "/train/" in n]
        return [label for label, wnid in enumerate(wnids) for _ in range(of.count(wnid))]
    rows = [row.split() for row in archive.read(f"{root}/val/val_annotations.txt").splitlines()]
    there = {int(name.decode()[4:-5]): wnids.index(wnid.decode()) for name, wnid, *_ in rows}
    return [there[number] for number in sorted(there)]


@pytest.mark.skipif(not REAL.is_file(), reason="no real images of Tiny ImageNet here")
@pytest.mark.parametrize("split, ends", [("train", 16), ("val", 5)])
def test_the_real_images_are_those_of_the_archive(split: str, ends: int) -> None:
    with zipfile.ZipFile(REAL) as archive:
        labels = official(archive, split)
    count = len(labels)
    head = data.load_dataset(f"tiny-imagenet:{split}[0:{ends}]", SHARED)
    tail = data.load_dataset(f"tiny-imagenet:{split}[{count - ends}:]", SHARED)
    assert head.labels is not None and head.labels.tolist() == labels[:ends]
    assert tail.labels is not None and tail.labels.tolist() == labels[-ends:]
    assert tail.image_ids[-1] == count - 1
    with zipfile.ZipFile(REAL) as archive:
        for part in (head, tail):
            content = [archive.read(f"tiny-imagenet-200/{name}") for name in part.files]
            pictures = [Image.open(io.BytesIO(one)).convert("RGB") for one in content]
            pixels = np.stack([np.asarray(picture) for picture in pictures])
            np.testing.assert_array_equal(part.images.permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.skipif(not REAL.is_file(), reason="no real images of Tiny ImageNet here")
def test_the_real_classes_have_200_different_names() -> None:
    classes = data.load_dataset("tiny-imagenet:val[0]", SHARED).classes
    assert (len(set(classes)), classes[0], classes[199]) == (
        200,
        "Egyptian cat",
        "African elephant",
    )
