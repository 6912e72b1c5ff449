"""The front door of data: names, ranges, and one type for what comes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import scoreag
from scoreag.data import loading as data
from scoreag.io.images import write_png

IMAGES = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 1, 2, 2)
LABELS = np.array([4, 3, 2, 1, 0])


@pytest.fixture
def five(tmp_path: Path) -> str:
    """Five gray images whose first pixels are 0, 4, 8, 12 and 16."""
    np.savez(tmp_path / "five.npz", images=IMAGES, labels=LABELS)
    return f"npz:{tmp_path / 'five.npz'}"


@pytest.mark.parametrize(
    "part, ids",
    [
        ("", (0, 1, 2, 3, 4)),
        ("[:]", (0, 1, 2, 3, 4)),
        ("[1:3]", (1, 2)),
        ("[3:]", (3, 4)),
        ("[:2]", (0, 1)),
        ("[0:5]", (0, 1, 2, 3, 4)),
        ("[4]", (4,)),
        ("[0]", (0,)),
    ],
)
def test_a_range_means_what_it_means_in_python(five: str, part: str, ids: tuple[int, ...]) -> None:
    came = data.load_dataset(five + part)
    assert came.image_ids == ids
    assert came.images[:, 0, 0, 0].tolist() == [4 * i for i in ids]
    assert came.labels is not None
    assert came.labels.tolist() == [4 - i for i in ids]


REFUSED = [
    "[0:6]",
    "[5]",
    "[5:]",
    "[2:2]",
    "[3:1]",
    "[0:0]",
    "[]",
    "[-1]",
    "[:-1]",
    "[a]",
    "[0:4:2]",
]


@pytest.mark.parametrize("part", [*REFUSED, "[1,2]", "[0:3", "[", "[ 1]", "[²]"])
def test_another_range_is_refused_with_the_size(five: str, part: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*five\.npz[^\n]*$") as raised:
        data.load_dataset(five + part)
    assert f"five.npz has 5 images; {part} is no part" in str(raised.value)


@pytest.mark.parametrize(
    "spec, fault",
    [
        ("cifra10:test", "no 'cifra10' in datasets; did you mean 'cifar10'"),
        ("sample", "did you mean 'foolbox-samples'"),
        ("tiny-imagnet:val", "no 'tiny-imagnet' in datasets; did you mean 'tiny-imagenet'"),
        ("tiny_imagnet:val", "did you mean 'tiny-imagenet'"),
        ("fashion-mnist:samples", "fashion-mnist has no split 'samples'; did you mean 'sample'"),
        (
            "nothing.png",
            r"no file or folder 'nothing\.png'; data sets are: cifar10, cifar100, edm-",
        ),
        ("no.such.module:x", r"no data set 'no\.such\.module'"),
        ("image-folder:nowhere", "no folder 'nowhere'"),
        ("", "no file, folder or data set ''"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(spec: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(spec)


def test_a_missing_file_of_arrays_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        data.load_dataset(f"npz:{tmp_path / 'none.npz'}")


def test_an_option_for_pictures_is_refused_elsewhere() -> None:
    with pytest.raises(ValueError, match="samples takes no option 'label'"):
        data.load_dataset("foolbox-samples", label=3)


def test_a_slice_keeps_ids_and_labels_together(five: str) -> None:
    part = data.load_dataset(five)[1:4][::2]
    assert len(part) == 2
    assert part.image_ids == (1, 3)
    assert part.labels is not None
    assert part.labels.tolist() == [3, 1]
    assert part.images[:, 0, 0, 0].tolist() == [4, 12]


@pytest.mark.parametrize("place, image_id", [(0, 0), (-1, 4)])
def test_one_row_is_a_data_set_of_one(five: str, place: int, image_id: int) -> None:
    assert data.load_dataset(five)[place].image_ids == (image_id,)


def test_a_row_beyond_the_end_is_an_index_error(five: str) -> None:
    with pytest.raises(IndexError):
        data.load_dataset(five)[5]


def test_the_digest_tells_pixels_labels_and_shapes_apart(tmp_path: Path) -> None:
    changed = IMAGES.copy()
    changed[3, 0, 1, 1] += 1
    versions = [
        {"images": IMAGES, "labels": LABELS},
        {"images": changed, "labels": LABELS},
        {"images": IMAGES, "labels": LABELS[::-1]},
        {"images": IMAGES},
        {"images": IMAGES.reshape(5, 1, 4, 1)[..., 0][..., None, :].repeat(2, 2)[:, :, :1]},
    ]
    digests = set()
    for version in versions:
        np.savez(tmp_path / "a.npz", **version)
        digests.add(data.load_dataset(tmp_path / "a.npz").sha256)
    assert len(digests) == len(versions)


def test_the_package_gives_floats_and_labels(five: str) -> None:
    images, labels = scoreag.load_data(f"{five}[1:3]")
    assert images.dtype == torch.float32
    assert images[1, 0, 0].tolist() == pytest.approx([8 / 255, 9 / 255])
    assert labels is not None
    assert labels.tolist() == [3, 2]


FOREIGN = """
import torch
from scoreag.data.source import Source

def load(what, root=None):
    pixels = torch.full((2, 1, 3, 3), int(what), dtype=torch.uint8)
    return Source(2, lambda rows: (pixels[rows.start : rows.stop], None), [10, 11])
"""


def test_a_foreign_data_set_is_a_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    came = data.load_dataset("elsewhere.mine:9[1]", data_dir=tmp_path)
    assert (came.image_ids, came.images.max().item()) == ((11,), 9)


@pytest.mark.parametrize(
    "part, name",
    [("", "five.npz"), ("[0:5]", "five.npz"), ("[:2]", "five.npz[0:2]"), ("[4]", "five.npz[4:5]")],
)
def test_the_name_says_the_range_unless_it_is_the_whole(five: str, part: str, name: str) -> None:
    assert data.load_dataset(five + part).name == f"npz:{name}"


def test_brackets_may_be_of_a_path_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("imgs", "imgs[1]", "set[v2]")):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "x.npz", images=IMAGES)
        for position in range(2):
            picture = torch.full((1, 2, 2), 10 * i + position, dtype=torch.uint8)
            write_png(tmp_path / name / f"{position}.png", picture)
    shades = {
        "image-folder:imgs[1]": [10, 11],
        "imgs[1]": [10, 11],
        "image-folder:set[v2]": [20, 21],
        "image-folder:imgs[1][1]": [11],
        "imgs[1][0:1]": [10],
        "image-folder:imgs/[1]": [1],
        "image-folder:imgs[0:1]": [0],
    }
    for word, wanted in shades.items():
        assert data.load_dataset(word).images[:, 0, 0, 0].tolist() == wanted, word
    assert data.source_path("image-folder:imgs[1]") == Path("imgs[1]")
    assert len(data.load_dataset("npz:imgs[1]/x.npz[0:3]")) == 3


@pytest.mark.parametrize(
    "name, told",
    [
        ("data.pt", r"np\.savez\('data\.npz', images=images\.numpy\(\)"),
        ("data.tar.gz", "unpack it, and give its folder"),
        ("labels.csv", "give the folder of the pictures"),
    ],
)
def test_a_file_that_is_no_picture_is_told_what_to_write_instead(
    tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / name).write_bytes(b"any")
    with pytest.raises(ValueError, match=rf"{name} is not read as data; [^\n]*{told}"):
        data.load_dataset(tmp_path / name)


def test_a_suffix_may_be_in_capitals(five: str, tmp_path: Path) -> None:
    (tmp_path / "five.npz").rename(tmp_path / "FIVE.NPZ")
    assert len(data.load_dataset(tmp_path / "FIVE.NPZ")) == 5


def test_counts_say_the_classes_that_a_range_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=[0, 0, 2, 1, 2], classes=["x", "y", "z"])
    came = data.load_dataset(f"{tmp_path / 'a.npz'}[0:3]")
    assert came.counts == {"x": 2, "y": 0, "z": 1}
    assert came.summary == "npz:a.npz[0:3]: 3 images, by class: x 2, y 0, z 1"
    assert data.load_dataset("foolbox-samples[0:1]").counts.keys() == set(
        data.load_dataset("foolbox-samples").classes
    )


def test_ones_own_images_can_be_put_in_an_order_in_which_the_classes_take_turns(
    tmp_path: Path,
) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=[2, 2, 2, 0, 1])
    came = data.interleave_classes(data.load_dataset(tmp_path / "a.npz"))
    assert came.image_ids == (0, 3, 4, 1, 2)
    assert came.labels is not None and came.labels.tolist() == [2, 0, 1, 2, 2]
    assert came.images[:, 0, 0, 0].tolist() == [0, 12, 16, 4, 8]
    official = data.load_dataset("fashion-mnist:sample")
    assert data.interleave_classes(official) is official


def test_a_path_is_known_with_and_without_its_kind(five: str, tmp_path: Path) -> None:
    file = tmp_path / "five.npz"
    assert data.source_path(f"{five}[0:2]") == data.source_path(file) == file
    assert (
        data.source_path("foolbox-samples") is None
        and data.source_path("cifar10:test[0:4]") is None
    )


@pytest.mark.parametrize("word", ["tiny-imagenet", "tiny_imagenet:val[0:2]", "cifar10:test"])
def test_a_data_set_is_no_path_even_where_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    for name in ("tiny-imagenet", "val", "test"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert data.source_path(word) is None


def test_a_dash_and_an_underscore_are_one_in_the_name_of_a_data_set() -> None:
    came = [data.load_dataset(f"{kind}:sample[0:2]") for kind in ("fashion-mnist", "fashion_mnist")]
    assert came[0].name == came[1].name == "fashion-mnist:sample[0:2]"
    assert came[0].sha256 == came[1].sha256


def test_data_that_would_have_to_be_fetched_is_not_at_hand(tmp_path):
    for word in ("cifar10:test[0:4]", "cifar100", "tiny-imagenet", "fashion-mnist:train"):
        assert not data.is_cached(word, tmp_path) or word.startswith(
            "fashion"
        )  # Debian packs that one
    assert data.is_cached("fashion-mnist:sample", tmp_path)
    assert not data.is_cached("no-such-data:set", tmp_path)


def test_data_of_fewer_classes_than_the_model_are_numbered_as_the_model_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "few.py").write_text(
        "import torch\nfrom scoreag.data.source import Source\n"
        "def load(word):\n"
        "    def read(rows):\n"
        "        labels = torch.tensor([1, 0, 1])[rows.start : rows.stop]\n"
        "        return torch.zeros(len(rows), 3, 2, 2, dtype=torch.uint8), labels\n"
        "    return Source(3, read, range(3), ('lion', 'Egyptian cat'))\n"
        "from types import SimpleNamespace\nFEW = SimpleNamespace(load=load)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    own = data.load_dataset("somewhere.few:x")
    assert own.labels is not None and own.labels.tolist() == [1, 0, 1]
    model = ("dog", "egyptian_cat", "ox", "lion")
    came = data.load_dataset("somewhere.few:x[1:3]", classes=model)
    assert came.labels is not None
    assert (came.labels.tolist(), came.classes) == ([3, 1], model)
    other = data.load_dataset(
        "somewhere.few:x", classes=("dog", "lion", "ox")
    )  # without the cat: as it is
    assert other.classes == ("lion", "Egyptian cat")
