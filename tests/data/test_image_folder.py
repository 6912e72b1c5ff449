"""Folders of pictures: their order, their labels, and what is refused."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from scoreag.data import loading as data


def paint(path: Path, gray: int, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> None:
    """A picture of one gray, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (gray,) * 3 if mode == "RGB" else gray).save(path)


def grays(dataset: data.Dataset) -> list[int]:
    return dataset.images[:, 0, 0, 0].tolist()


def labels(dataset: data.Dataset) -> list[int]:
    assert dataset.labels is not None
    assert dataset.labels.dtype == torch.int64
    return dataset.labels.tolist()


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name, gray in [("dog/b.png", 3), ("cat/2.png", 2), ("dog/a.PNG", 4), ("cat/10.png", 1)]:
        paint(tmp_path / "pets" / name, gray)
    (tmp_path / "pets" / "emu").mkdir()
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("none")
    return tmp_path / "pets"


def test_class_folders_take_turns_in_the_order_of_their_names(pets: Path) -> None:
    came = data.load_dataset(f"image-folder:{pets}")
    assert grays(came) == [1, 4, 2, 3]
    assert labels(came) == [0, 1, 0, 1]
    assert came.classes == ("cat", "dog", "emu")
    assert came.image_ids == (0, 1, 2, 3)
    assert came.name == "image-folder:pets"


def test_a_range_has_the_ids_of_the_whole(pets: Path) -> None:
    came = data.load_dataset(f"image-folder:{pets}[1:3]")
    assert (grays(came), came.image_ids) == ([4, 2], (1, 2))
    assert (came.files, came.name) == (("dog/a.PNG", "cat/2.png"), "image-folder:pets[1:3]")


def test_the_first_few_of_a_folder_hold_its_classes_alike_until_one_is_used_up(
    tmp_path: Path,
) -> None:
    for name, count in (("a", 5), ("b", 1), ("c", 3)):
        for i in range(count):
            paint(tmp_path / name / f"{i}.png", i)
    assert labels(data.load_dataset(f"image-folder:{tmp_path}")) == [0, 1, 2, 0, 2, 0, 2, 0, 0]
    assert data.load_dataset(f"image-folder:{tmp_path}[0:3]").counts == {"a": 1, "b": 1, "c": 1}


def test_the_order_and_the_ids_do_not_depend_on_the_numbers_of_the_classes(pets: Path) -> None:
    ours, theirs = data.load_dataset(pets), data.load_dataset(pets, classes=("emu", "dog", "cat"))
    assert ours.files == theirs.files and ours.image_ids == theirs.image_ids


def test_a_folder_needs_no_prefix(pets: Path) -> None:
    assert data.load_dataset(str(pets)).sha256 == data.load_dataset(f"image-folder:{pets}").sha256


def test_classes_that_are_given_number_the_folders(pets: Path) -> None:
    came = data.load_dataset(f"image-folder:{pets}", classes=("dog", "emu", "bee", "cat"))
    assert labels(came) == [3, 0, 3, 0]
    assert came.classes == ("dog", "emu", "bee", "cat")


def test_a_folder_that_is_none_of_the_classes_gets_a_hint(pets: Path) -> None:
    with pytest.raises(ValueError, match="no class 'emu'; did you mean 'emus'"):
        data.load_dataset(f"image-folder:{pets}", classes=("cat", "dog", "emus"))


def test_folders_that_are_numbers_are_those_numbers(tmp_path: Path) -> None:
    for number in range(11):
        paint(tmp_path / str(number) / "a.png", number)
    came = data.load_dataset(f"image-folder:{tmp_path}")
    assert sorted(zip(labels(came), grays(came), strict=True)) == [(i, i) for i in range(11)]
    assert came.classes == tuple(str(i) for i in range(11))


def test_a_table_gives_labels_by_name_in_its_order(tmp_path: Path) -> None:
    for gray in range(3):
        paint(tmp_path / "all" / f"{gray}.png", gray)
    table = "file,label,by\r\nall/2.png,dog,me\r\nall/0.png,cat,me\r\nall/1.png,dog,me\r\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8-sig")
    came = data.load_dataset(f"image-folder:{tmp_path}")
    assert (grays(came), labels(came), came.classes) == ([2, 0, 1], [1, 0, 1], ("cat", "dog"))


def test_a_table_gives_labels_by_number(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 7)
    (tmp_path / "labels.csv").write_text("file,label\na.png,5\n")
    came = data.load_dataset(f"image-folder:{tmp_path}")
    assert (labels(came), came.classes) == ([5], ())


@pytest.mark.parametrize(
    "table, fault",
    [
        ("a.png,cat\n", r"begins with 'a\.png,cat'; its first line must be 'file,label'"),
        ("file,label\na.png,cat\nb.png,cat\n", r"line 3, names 'b\.png', which is not there"),
        ("file,label\na.png\n", "line 2, has no label"),
        ("file,label\n", "has no PNG or JPEG"),
        ("", "its first line must be"),
    ],
)
def test_a_table_with_a_fault_is_refused_with_the_place(
    tmp_path: Path, table: str, fault: str
) -> None:
    paint(tmp_path / "a.png", 7)
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(f"image-folder:{tmp_path}")


def test_pictures_without_class_folders_are_unlabeled(tmp_path: Path) -> None:
    paint(tmp_path / "b.png", 2)
    paint(tmp_path / "a.jpg", 1)
    came = data.load_dataset(f"image-folder:{tmp_path}")
    assert (grays(came), came.labels, came.classes) == ([1, 2], None, ())


def test_pictures_beside_class_folders_are_not_passed_over(pets: Path) -> None:
    paint(pets / "stray.png", 9)
    with pytest.raises(ValueError, match=r"pictures beside its class folders, such as stray\.png"):
        data.load_dataset(f"image-folder:{pets}")


def test_another_size_is_refused_with_the_file_and_both_sizes(pets: Path) -> None:
    paint(pets / "dog" / "c.png", 9, size=(6, 5))
    fault = r"dog/c\.png is 3 x 5 x 6 but \S+cat/10\.png is 3 x 4 x 4"
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(f"image-folder:{pets}")


def test_a_size_that_is_given_makes_them_alike(pets: Path) -> None:
    paint(pets / "dog" / "c.png", 9, size=(6, 5))
    assert data.load_dataset(f"image-folder:{pets}", size=(2, 3)).images.shape == (5, 3, 2, 3)


@pytest.mark.parametrize("size", [None, (4, 4)])
def test_gray_among_color_becomes_rgb(pets: Path, size: tuple[int, int] | None) -> None:
    paint(pets / "dog" / "c.png", 9, mode="L")
    came = data.load_dataset(f"image-folder:{pets}", size=size)
    assert came.images.shape == (5, 3, 4, 4)
    assert came.images[-1].unique().tolist() == [9]


def test_a_gray_picture_alone_in_a_range_becomes_what_it_is_among_the_others(pets: Path) -> None:
    paint(pets / "dog" / "c.png", 9, mode="L")
    assert data.load_dataset(f"image-folder:{pets}[4]").images.shape == (1, 3, 4, 4)


def test_a_gray_folder_stays_gray(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/0.png"):
        paint(tmp_path / name, 5, mode="L")
    assert data.load_dataset(tmp_path).images.shape == (2, 1, 4, 4)


def test_color_among_gray_is_refused_and_the_advice_works(tmp_path: Path) -> None:
    for name, mode in (("0.png", "L"), ("1.png", "RGB"), ("2.png", "L")):
        paint(tmp_path / "a" / name, 5, mode=mode)
    for size in (None, (4, 4)):
        with pytest.raises(ValueError, match=r'1\.png is in color.*are gray: .*\.convert\("L"\)'):
            data.load_dataset(tmp_path, size=size)
    Image.open(tmp_path / "a" / "1.png").convert("L").save(tmp_path / "a" / "1.png")
    assert data.load_dataset(tmp_path).images.shape == (3, 1, 4, 4)


def test_a_corrupt_picture_is_named(pets: Path) -> None:
    (pets / "cat" / "2.png").write_bytes((pets / "cat" / "2.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"cat/2\.png is no whole PNG or JPEG"):
        data.load_dataset(f"image-folder:{pets}")


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no PNG or JPEG"):
        data.load_dataset(f"image-folder:{tmp_path}")


@pytest.mark.parametrize(
    "folders, told",
    [
        (["train/cat", "test/cat"], "holds the splits test, train"),
        (["Train/cat", "Val/cat", ".cache"], "holds the splits Train, Val"),
        (["valid", "test", "extra"], "holds the splits test, valid"),
        (["train/dog"], "holds the splits train"),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_splits_are_not_taken_for_classes(tmp_path: Path, folders: list[str], told: str) -> None:
    for place in folders:
        paint(tmp_path / "root" / place / "1.png", 1)
    with pytest.raises(ValueError, match=told) as caught:
        data.load_dataset(f"image-folder:{tmp_path / 'root'}")
    advice = str(caught.value).split("e.g. ")[1]
    assert advice.lower().endswith(("train", "test")) and len(data.load_dataset(advice)) == 1


@pytest.mark.parametrize(
    "folders, classes",
    [(["train", "bus", "tram"], ()), (["train", "test"], ("test", "train"))],
)
def test_a_class_may_be_called_as_a_split_is(
    tmp_path: Path, folders: list[str], classes: tuple[str, ...]
) -> None:
    """CIFAR-100 has trains; and names that a model has given are classes whatever they are."""
    for i, place in enumerate(folders):
        paint(tmp_path / "root" / place / "1.png", i)
    assert data.load_dataset(f"image-folder:{tmp_path / 'root'}", classes=classes).classes == tuple(
        sorted(folders)
    )
