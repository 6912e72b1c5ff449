"""Zips and folders of EDM's dataset_tool.py are read as EDM's training reads them."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scoreag.data import loading as data

NAMES = [f"00000/img{i:08d}.png" for i in range(3)]
LABELS: list[Any] = [[name, label] for name, label in zip(NAMES, (2, 0, 1), strict=True)]


def png(shade: int, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, labels: Any, sides: tuple[int, ...] = (4, 4, 4)) -> Path:
    """A zip, or a folder, whose pictures are written in another order than that of their names."""
    members = {name: png(10 * i, sides[i]) for i, name in reversed([*enumerate(NAMES)])}
    members["dataset.json"] = json.dumps({"labels": labels}).encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        for name, content in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["cifar10-32x32.zip", "cifar10-32x32"])
@pytest.mark.parametrize("prefix", ["", "edm-dataset:"])
def test_a_zip_and_a_folder_are_read_in_the_order_of_their_names(tmp_path, name, prefix):
    path = write(tmp_path / name, LABELS)
    came = data.load_dataset(f"{prefix}{path}[1:3]")
    assert came.images[:, 0, 0, 0].tolist() == [10, 20]
    assert came.labels is not None
    assert (came.labels.tolist(), came.image_ids) == ([0, 1], (1, 2))
    assert (came.name, came.files) == (f"edm-dataset:{name}[1:3]", tuple(NAMES[1:]))


def test_labels_take_the_names_of_a_classifier_and_null_means_none(tmp_path):
    named = data.load_dataset(write(tmp_path / "a.zip", LABELS), classes=("ape", "bee", "cat"))
    assert named.counts == {"ape": 1, "bee": 1, "cat": 1}
    assert data.load_dataset(write(tmp_path / "b.zip", None)).labels is None


@pytest.mark.parametrize(
    "labels, sides, message",
    [
        (LABELS[:2], (4, 4, 4), "1 pictures have no label, e.g. 00000/img00000002.png"),
        ([[NAMES[0], 0.5]], (4, 4, 4), "expected pairs of a name and a number, not"),
        ([[NAMES[0], True]], (4, 4, 4), "expected pairs of a name and a number, not"),
        ({"a": 1}, (4, 4, 4), "expected pairs of a name and a number, not None"),
        ([*LABELS[:2], [NAMES[2], -1]], (4, 4, 4), "the label -1; expected 0 or more"),
        (LABELS, (4, 4, 5), "one size"),
    ],
)
def test_damaged_tables_and_pictures_of_other_sizes_are_refused(tmp_path, labels, sides, message):
    path = write(tmp_path / "a.zip", labels, sides)
    with pytest.raises(ValueError, match=message) as caught:
        data.load_dataset(path)
    assert str(path) in str(caught.value)


def test_a_label_beyond_the_classes_is_refused(tmp_path):
    path = write(tmp_path / "a.zip", LABELS)
    with pytest.raises(ValueError, match=r"the label 2; expected 0\.\.1"):
        data.load_dataset(path, classes=("ape", "bee"))


def test_a_zip_of_something_else_is_told_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat.png", png(1))
    with pytest.raises(ValueError, match="unpack it, and give its folder"):
        data.load_dataset(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"has no dataset\.json; it is no data set of EDM"):
        data.load_dataset(f"edm-dataset:{tmp_path / 'a.zip'}")
