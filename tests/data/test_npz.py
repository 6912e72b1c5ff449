"""Arrays of an .npz file: layouts, ranges, and what is refused."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoreag.data import loading as data

RGB = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def saved(folder: Path, **arrays: Any) -> str:
    np.savez_compressed(folder / "a.npz", **arrays)
    return f"npz:{folder / 'a.npz'}"


@pytest.mark.parametrize(
    "images",
    [RGB, RGB.transpose(0, 3, 1, 2), RGB / 255, (RGB / 255).astype(np.float32)],
    ids=["nhwc", "nchw", "float64", "float32"],
)
def test_every_layout_gives_the_same_pixels(tmp_path: Path, images: Any) -> None:
    came = data.load_dataset(saved(tmp_path, images=images))
    assert came.images.shape == (2, 3, 4, 5)
    assert came.images[1, 2, 3, 4] == RGB[1, 3, 4, 2]
    assert came.sha256 == data.load_dataset(saved(tmp_path, images=RGB)).sha256


def test_grey_images_need_no_channels(tmp_path: Path) -> None:
    came = data.load_dataset(saved(tmp_path, images=RGB[..., 0]))
    assert torch.equal(came.images[:, 0], torch.from_numpy(RGB[..., 0].copy()))


def test_labels_classes_and_ranges(tmp_path: Path) -> None:
    spec = saved(tmp_path, images=RGB, labels=np.array([1, 0], np.int32), classes=["ape", "bee"])
    came = data.load_dataset(f"{spec}[1]")
    assert came.labels is not None
    assert came.labels.dtype == torch.int64
    assert (came.labels.tolist(), came.image_ids) == ([0], (1,))
    assert (came.classes, came.name) == (("ape", "bee"), "npz:a.npz[1:2]")


def test_a_path_needs_no_prefix(tmp_path: Path) -> None:
    spec = saved(tmp_path, images=RGB)
    assert data.load_dataset(tmp_path / "a.npz").sha256 == data.load_dataset(spec).sha256


@pytest.mark.parametrize(
    "arrays, fault",
    [
        ({"x": RGB}, "has no array 'images'; it has: x"),
        ({"images": RGB / 100}, r"lie in \[0, 1\.19\], expected \[0, 1\]"),
        ({"images": RGB / 255 * np.nan}, "NaN"),
        ({"images": RGB.astype(np.int64)}, "images are int64; expected uint8, or float"),
        ({"images": RGB[:, :3, :, :]}, "can be read in two ways"),
        ({"images": RGB[0, 0]}, "expected .batch, channels, height, width."),
        ({"images": RGB, "labels": [0, 1, 2]}, r"shape \(3,\); expected integers .* \(2,\)"),
        ({"images": RGB, "labels": [0.0, 1.0]}, "labels are float64"),
        ({"images": RGB, "labels": [0, -1]}, "labels hold -1"),
        (
            {"images": RGB, "labels": [0, 2], "classes": ["a", "b"]},
            r"labels hold 2; expected 0\.\.1",
        ),
    ],
)
def test_other_arrays_are_refused_with_what_came(
    tmp_path: Path, arrays: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.npz[^\n]*{fault}"):
        data.load_dataset(saved(tmp_path, **arrays))


class Harmful:
    def __init__(self, came: Path) -> None:
        self.came = came

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.came),)


def test_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    harmful = np.array([Harmful(tmp_path / "came")], dtype=object)
    with pytest.raises(ValueError, match="damaged or holds objects"):
        data.load_dataset(saved(tmp_path, images=RGB, labels=harmful))
    assert not (tmp_path / "came").exists()


def _damaged(kind: str, whole: bytes) -> bytes:
    middle = len(whole) // 2
    return {
        "cut": whole[:middle],
        "flipped": whole[:60] + bytes([whole[60] ^ 255]) + whole[61:],
        "page": b"<!DOCTYPE html>",
        "empty": b"",
    }[kind]


@pytest.mark.parametrize("kind", ["cut", "flipped", "page", "empty"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    spec = saved(tmp_path, images=RGB)
    path = tmp_path / "a.npz"
    path.write_bytes(_damaged(kind, path.read_bytes()))
    with pytest.raises(ValueError, match=r"^\S+a\.npz is (no complete \.npz|damaged)[^\n]*$"):
        data.load_dataset(spec)


def test_classes_that_are_given_number_the_names_of_the_file(tmp_path: Path) -> None:
    spec = saved(tmp_path, images=RGB, labels=[0, 1], classes=["dog", "cat"])
    came = data.load_dataset(spec, classes=("cat", "bee", "dog"))
    assert came.labels is not None
    assert (came.labels.tolist(), came.classes) == ([2, 0], ("cat", "bee", "dog"))
    with pytest.raises(ValueError, match=r"a\.npz: no class 'dog'"):
        data.load_dataset(spec, classes=("cat", "bee"))


def test_samples_of_openai_s_scripts_and_columns_of_labels_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", RGB, np.array([[2], [1]]))  # arr_0 and arr_1
    came = data.load_dataset(tmp_path / "samples.npz")
    assert came.labels is not None
    assert came.labels.tolist() == [2, 1]
    assert came.sha256 == data.load_dataset(saved(tmp_path, images=RGB, labels=[2, 1])).sha256


def test_an_array_alone_is_images_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "cifar10c.npy", RGB)
    came = data.load_dataset(tmp_path / "cifar10c.npy")
    assert (came.labels, came.name) == (None, "npz:cifar10c.npy")
    assert came.sha256 == data.load_dataset(saved(tmp_path, images=RGB)).sha256


def test_an_array_that_breaks_off_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RGB)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with pytest.raises(
        ValueError, match=r"a\.npy is no whole \.npy file: it has 119 bytes, not 120"
    ):
        data.load_dataset(tmp_path / "a.npy")
