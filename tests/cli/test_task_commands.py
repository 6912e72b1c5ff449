"""What the three tasks check of their data before they load or compute anything."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scoreag.cli.runs import (
    check_classes,
    check_labeled,
    check_not_overwritten,
    check_shape,
    describe_data,
)
from scoreag.data.loading import Dataset


def labelled(*classes: str) -> Dataset:
    pixels = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    return Dataset(pixels, torch.tensor([0]), (7,), classes, "image-folder:pets", ("cat/a.png",))


@pytest.mark.parametrize(
    "spec", ["gat", "gat[0:2]", "image-folder:gat", "gat/images", "./gat/../gat"]
)
def test_data_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gat" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"is read from --out gat itself.*give another --out"):
        check_not_overwritten(spec, "gat")
    check_not_overwritten(spec, "gat2")


def test_data_of_other_classes_is_refused() -> None:
    with pytest.raises(
        ValueError, match="classes of image-folder:pets are 0 cat, 1 dog, those of the m"
    ):
        check_classes(labelled("cat", "dog"), ("dog", "cat"))


@pytest.mark.parametrize("classes", [("cat", "dog"), (), ("0", "1")])
def test_the_same_classes_or_nameless_ones_are_taken(classes: tuple[str, ...]) -> None:
    check_classes(labelled("cat", "dog"), classes)
    check_classes(labelled(*classes), ("cat", "dog"))


@pytest.mark.parametrize(
    "name, shape, told",
    [
        ("single-image:cat.png", (3, 32, 32), "are 3 x 4 x 4, and the model takes 3 x 32 x 32; "
         "write --size 32"),
        ("image-folder:pets", (3, 24, 32), "; write --size 24x32"),
        ("image-folder:pets", (1, 4, 4), "the model takes 1 x 4 x 4; give images of that shape"),
        ("npz:pets.npz", (3, 32, 32), "; give images of that shape"),
        ("cifar10:test", (3, 64, 64), "; give images of that shape"),
    ],
)  # fmt: skip
def test_images_of_another_size_are_refused_with_the_option_that_resizes_them(
    name: str, shape: tuple[int, int, int], told: str
) -> None:
    with pytest.raises(ValueError) as caught:
        check_shape(replace(labelled("cat"), name=name), shape)
    assert str(caught.value).startswith(f"the images of {name} ")
    assert str(caught.value).endswith(told)
    check_shape(replace(labelled("cat"), name=name), (3, 4, 4))


@pytest.mark.parametrize(
    "name, told",
    [
        ("single-image:cat.png", "write --class"),
        ("image-folder:pets", "use class folders or a labels.csv"),
        ("npz:pets.npz", "put an array 'labels' into it"),
        ("run-dir:gas", "give data that has labels"),
    ],
)
def test_images_without_labels_are_refused_with_the_place_where_labels_go(name, told) -> None:
    with pytest.raises(ValueError) as caught:
        check_labeled(replace(labelled("cat"), name=name, labels=None))
    assert str(caught.value) == f"{name} has no labels, and success depends on them; {told}"
    check_labeled(replace(labelled("cat"), name=name))


def test_manifest_and_rows_are_told_where_the_data_is_from() -> None:
    told = describe_data(labelled())
    assert told["data"]["name"] == "image-folder:pets" and told["sources"] == {7: "cat/a.png"}
