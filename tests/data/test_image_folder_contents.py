"""What a folder holds: what is read, what is left out, and that it is said."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scoreag
from scoreag.data import loading as data


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), 7, dtype=np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        paint(tmp_path / "pets" / name)
    return tmp_path / "pets"


SUFFIXES = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, "PNG", "JPG", "WebP", "TIF"])
def test_pictures_of_these_kinds_are_read_however_their_suffix_is_written(
    tmp_path: Path, suffix: str
) -> None:
    paint(tmp_path / "a" / f"0.{suffix}")
    came = data.load_dataset(tmp_path)
    assert came.files == (f"a/0.{suffix}",)
    assert abs(int(came.images.float().mean()) - 7) <= 1  # JPEG and WebP may round
    assert came.skipped == {}


@pytest.mark.parametrize(
    "hidden",
    [
        "cat/.ipynb_checkpoints/0-checkpoint.png",
        "cat/more/.thumbs/0.png",
        "cat/._0.png",
        "cat/__MACOSX/0.png",
        ".cache/0.png",
        "_old/0.png",
    ],
)
def test_what_is_hidden_is_left_out_at_every_level_and_told(pets: Path, hidden: str) -> None:
    paint(pets / hidden)
    came = data.load_dataset(pets)
    assert came.files == ("cat/0.png", "dog/0.png", "cat/1.png")
    (left,) = came.skipped["hidden"]
    assert hidden.startswith(left) and left.rpartition("/")[2][0] in "._"


def test_a_picture_in_a_folder_of_its_class_is_read(pets: Path) -> None:
    paint(pets / "cat" / "more" / "2.png")
    assert data.load_dataset(pets).files[-1] == "cat/more/2.png"


def test_other_files_and_empty_classes_are_told(pets: Path) -> None:
    (pets / "emu").mkdir()
    (pets / "README.txt").write_text("of pets")
    (pets / "dog" / "1.gif").write_bytes(b"GIF89a")
    (pets / "dog" / "gone.png").symlink_to(pets / "nowhere.png")
    came = data.load_dataset(pets)
    assert came.skipped == {
        "no picture that is read": ("README.txt", "dog/1.gif", "dog/gone.png"),
        "an empty class": ("emu",),
    }
    assert came.counts == {"cat": 2, "dog": 1, "emu": 0}
    assert came.summary == (
        "image-folder:pets: 3 images, by class: cat 2, dog 1, emu 0; left out: "
        "3 no picture that is read (README.txt, dog/1.gif, dog/gone.png); "
        "left out: 1 an empty class (emu)"
    )


def test_a_link_to_a_folder_inside_a_class_is_told_and_one_to_a_class_is_followed(
    pets: Path, tmp_path: Path
) -> None:
    paint(tmp_path / "others" / "9.png")
    (pets / "cat" / "more").symlink_to(tmp_path / "others")
    (pets / "emu").symlink_to(tmp_path / "others")
    came = data.load_dataset(pets)
    assert came.skipped == {"a link to a folder": ("cat/more",)}
    assert "emu/9.png" in came.files


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_may_not_be_read_is_no_empty_one(pets: Path) -> None:
    (pets / "cat" / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError, match="closed"):
        data.load_dataset(pets)


def test_pictures_that_a_table_does_not_name_are_told(pets: Path) -> None:
    (pets / "labels.csv").write_text("file,label\ncat/1.png,cat\n")
    came = data.load_dataset(pets)
    assert (came.files, came.counts) == (("cat/1.png",), {"cat": 1})
    assert came.skipped == {"not in labels.csv": ("cat/0.png", "dog/0.png")}


def test_a_folder_without_pictures_says_what_it_has(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"has no PNG or JPEG .*1 no picture .*images\.npy"):
        data.load_dataset(tmp_path)


def test_many_classes_are_told_in_short(tmp_path: Path) -> None:
    for i in range(12):
        paint(tmp_path / f"c{i:02d}" / "0.png")
    paint(tmp_path / "c03" / "1.png")
    assert "13 images, of 12 of 12 classes, 1 to 2 of each" in data.load_dataset(tmp_path).summary
    part = data.load_dataset(f"image-folder:{tmp_path}[0:4]")
    assert "4 images, of 4 of 12 classes, 1 of each" in part.summary


def test_the_pair_of_the_package_knows_its_data_set(pets: Path) -> None:
    found = scoreag.load_data(f"image-folder:{pets}", classes=("dog", "cat"))
    images, labels = found
    assert images.shape == (3, 3, 4, 4) and labels is not None
    assert labels.tolist() == [1, 0, 1]
    assert found.dataset.classes == ("dog", "cat")
    assert found.dataset.counts == {"dog": 1, "cat": 2}


def test_a_folder_is_the_same_one_after_it_was_copied(pets: Path, tmp_path: Path) -> None:
    """The order is that of the names, not that in which a disk lists them."""
    copy = tmp_path / "copy"
    for file in sorted(pets.rglob("*.png"), reverse=True):
        (copy / file.relative_to(pets)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy / file.relative_to(pets))
    assert data.load_dataset(copy).files == data.load_dataset(pets).files
