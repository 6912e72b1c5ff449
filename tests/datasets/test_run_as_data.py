"""The images of a run are data for another."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scoreag import data
from scoreag.images import write_png


def write_run(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "originals").mkdir()
    for image_id in (7, 300):
        image = torch.full((3, 4, 4), image_id % 256, dtype=torch.uint8)
        write_png(folder / "images" / f"{image_id:06d}.png", image)
        write_png(folder / "originals" / f"{image_id:06d}.png", image + 1)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def row(image_id: int, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "label": 2, "file": f"images/{image_id:06d}.png"} | more


@pytest.mark.parametrize("prefix", ["", "run:", "folder:"])
def test_images_come_with_their_ids_and_labels_in_the_order_of_ids(
    tmp_path: Path, prefix: str
) -> None:
    run = write_run(tmp_path / "gat", row(300, label=5), row(7))
    came = data.read(f"{prefix}{run}")
    assert came.image_ids == (7, 300)
    assert came.labels is not None
    assert came.labels.tolist() == [2, 5]
    assert came.images[:, 0, 0, 0].tolist() == [7, 300 % 256]


def test_a_range_counts_images_not_ids(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    assert data.read(f"{run}[1]").image_ids == (300,)


def test_a_run_without_labels_is_unlabelled(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gap", row(7, label=None))
    assert data.read(run).labels is None


@pytest.mark.parametrize(
    "rows, fault",
    [
        ([], "has no rows"),
        ([row(7), row(7)], "has an image id twice"),
        ([row(7), row(300, label=None)], "rows with a label and rows without"),
        ([{"image_id": 7}], "line 1, is no whole row"),
        ([row(7, file="../secret.png")], "is outside its folder"),
    ],
)
def test_a_run_with_a_fault_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        data.read(write_run(tmp_path / "gat", *rows))


def test_a_cut_row_is_refused_with_its_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    text = (run / "rows.jsonl").read_text()
    (run / "rows.jsonl").write_text(text[:-20])
    with pytest.raises(ValueError, match="line 2, is no whole row of an image"):
        data.read(run)


def test_another_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no rows\.jsonl"):
        data.read(f"run:{tmp_path}")
