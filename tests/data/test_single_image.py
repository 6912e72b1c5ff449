"""One's own picture."""

from pathlib import Path

import pytest
from PIL import Image

from scoreag.data import loading as data

CLASSES = ("bird", "cat", "dog")


@pytest.fixture
def cat(tmp_path: Path) -> str:
    Image.new("RGB", (8, 6), (1, 2, 3)).save(tmp_path / "cat.png")
    return str(tmp_path / "cat.png")


def test_a_picture_keeps_its_size_and_colours(cat: str) -> None:
    came = data.load_dataset(cat)
    assert came.images.shape == (1, 3, 6, 8)
    assert came.images[0, :, 5, 7].tolist() == [1, 2, 3]
    assert (came.labels, came.image_ids, came.name) == (None, (0,), "single-image:cat.png")
    assert came.files == ("cat.png",)


@pytest.mark.parametrize("label", ["cat", 1, "1"])
def test_its_label_is_a_name_or_a_number(cat: str, label: str | int) -> None:
    came = data.load_dataset(cat, label=label, classes=CLASSES)
    assert came.labels is not None
    assert came.labels.tolist() == [1]
    assert came.classes == CLASSES


def test_a_number_needs_no_classes(cat: str) -> None:
    came = data.load_dataset(cat, label=3)
    assert came.labels is not None
    assert came.labels.tolist() == [3]


@pytest.mark.parametrize(
    "label, classes, fault",
    [
        ("cta", CLASSES, "no class 'cta'; did you mean 'cat'"),
        (3, CLASSES, r"label 3 is not in 0\.\.2: 0 bird, 1 cat, 2 dog"),
        (-1, CLASSES, "no class '-1'"),
        ("cat", (), "give its number"),
    ],
)
def test_another_label_is_refused_with_the_right_ones(
    cat: str, label: str | int, classes: tuple[str, ...], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(cat, label=label, classes=classes)


def test_it_is_resized_when_asked(cat: str) -> None:
    assert data.load_dataset(cat, size=(3, 3)).images.shape == (1, 3, 3, 3)


@pytest.mark.parametrize("size", [(0, 3), (3, -1)])
def test_an_impossible_size_is_refused(cat: str, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"expected \(height, width\)"):
        data.load_dataset(cat, size=size)


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no file or folder '\S*dog\.png'"):
        data.load_dataset(tmp_path / "dog.png")
