"""The 20 CIFAR-10 images that come with the package foolbox."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoreag.data import loading as data


def test_they_are_the_first_20_of_the_test_split_with_their_labels() -> None:
    came = data.load_dataset("foolbox-samples")
    assert came.image_ids == tuple(range(20))
    assert came.labels is not None
    published = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6]
    assert came.labels.tolist() == published
    assert came.classes[3] == "cat"


def test_their_pixels_are_those_of_the_files() -> None:
    came = data.load_dataset("foolbox-samples[6]")
    spec = find_spec("foolbox")
    assert spec is not None and spec.origin is not None
    with Image.open(Path(spec.origin).parent / "data" / "cifar10_06_1.png") as picture:
        pixels = np.asarray(picture)
    np.testing.assert_array_equal(came.images[0].permute(1, 2, 0).numpy(), pixels)


def test_they_have_no_splits() -> None:
    with pytest.raises(ValueError, match="write 'foolbox-samples', not 'foolbox-samples:test'"):
        data.load_dataset("foolbox-samples:test")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(ValueError, match=r"^[^\n]*pip install 'scoreag\[foolbox\]'$"):
        data.load_dataset("foolbox-samples")
