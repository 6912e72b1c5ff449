"""The images of a run are data for another."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from scoreag.data import loading as data
from scoreag.io.images import write_png
from scoreag.io.manifest import FORMAT


def write_run(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "originals").mkdir()
    for image_id in (7, 300):
        image = torch.full((3, 4, 4), image_id % 256, dtype=torch.uint8)
        write_png(folder / "images" / f"{image_id:06d}.png", image)
        write_png(folder / "originals" / f"{image_id:06d}.png", image + 1)
    for row in rows:
        if (folder / row.get("file", "none")).is_file():
            row["sha256"] = hashlib.sha256((folder / row["file"]).read_bytes()).hexdigest()
    (folder / "rows.jsonl").write_text("".join(sealed(row, len(rows)) for row in rows))
    finish(folder, "today", len(rows))
    return folder


def seal(count: int) -> str:
    """The digest of all that is no circumstance in the manifest below."""
    return hashlib.sha256(f'{{"images": {count}}}'.encode()).hexdigest()


def sealed(row: dict[str, Any], count: int) -> str:
    """A row with its digest: of the run's seal, a line's end, and what stands before it."""
    digest = hashlib.sha256(f"{seal(count)}\n{json.dumps(row)}".encode()).hexdigest()[:16]
    return json.dumps(row)[:-1] + f', "digest": "{digest}"}}\n'


def finish(folder: Path, time: str | None, count: int = 2) -> None:
    told = {
        "format": FORMAT, "images": count, "finished": time, "command": "scoreag transform",
        "seal": seal(count),
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(told))


def row(image_id: int, **more: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "label": 2,
        "file": f"images/{image_id:06d}.png",
        "sha256": "",
    } | more


@pytest.mark.parametrize("prefix", ["", "run-dir:", "image-folder:"])
def test_images_come_with_their_ids_and_labels_in_the_order_of_ids(
    tmp_path: Path, prefix: str
) -> None:
    run = write_run(tmp_path / "gat", row(300, label=5), row(7))
    came = data.load_dataset(f"{prefix}{run}")
    assert came.image_ids == (7, 300)
    assert came.labels is not None
    assert came.labels.tolist() == [2, 5]
    assert came.images[:, 0, 0, 0].tolist() == [7, 300 % 256]


def test_a_run_is_read_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    with pytest.raises(ValueError, match="is a run, whose images are read as they are"):
        data.load_dataset(f"image-folder:{run}", size=(2, 2))


def test_a_range_counts_images_not_ids(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    assert data.load_dataset(f"{run}[1]").image_ids == (300,)


def test_a_run_without_labels_is_unlabeled(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gap", row(7, label=None))
    assert data.load_dataset(run).labels is None


@pytest.mark.parametrize(
    "rows, fault",
    [
        ([], "has no rows"),
        ([row(7), row(7)], "image 7 is there twice"),
        ([row(7), row(300, label=None)], "rows with a label and rows without"),
        ([{"image_id": 7}], "line 1: file is missing"),
        ([row(7, file="../secret.png")], "is outside its folder"),
    ],
)
def test_a_run_with_a_fault_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        data.load_dataset(write_run(tmp_path / "gat", *rows))


def test_a_cut_row_is_refused_with_its_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    text = (run / "rows.jsonl").read_text()
    (run / "rows.jsonl").write_text(text[:-20])
    with pytest.raises(ValueError, match="line 2: it is not as the run wrote it"):
        data.load_dataset(run)


def test_a_changed_row_is_refused_with_its_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    text = (run / "rows.jsonl").read_text()
    (run / "rows.jsonl").write_text(text.replace('"label": 2', '"label": 1', 1))
    with pytest.raises(ValueError, match="line 1: it is not as the run wrote it"):
        data.load_dataset(run)


def test_a_run_that_lost_a_row_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    text = (run / "rows.jsonl").read_text().splitlines(keepends=True)
    (run / "rows.jsonl").write_text(text[0])
    with pytest.raises(ValueError, match=r"not finished \(1 of 2 images\)"):
        data.load_dataset(run)


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7))
    told = json.loads((run / "manifest.json").read_text())
    del told["seal"]
    (run / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="was written by an earlier version"):
        data.load_dataset(run)


@pytest.mark.parametrize("kind", ["picture", "folder", "rows"])
def test_a_link_out_of_a_run_is_not_followed(tmp_path: Path, kind: str) -> None:
    """The picture behind it is, byte for byte, the one that the row was written for."""
    run, kept = write_run(tmp_path / "gat", row(7)), tmp_path / "elsewhere"
    kept.mkdir()
    names = {"picture": "images/000007.png", "folder": "images", "rows": "rows.jsonl"}
    (run / names[kind]).rename(kept / "it")
    (run / names[kind]).symlink_to(kept / "it")
    with pytest.raises(ValueError, match="which is outside its folder"):
        data.load_dataset(run)


def test_an_absolute_name_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    write_png(secret, torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="which is outside its folder"):
        data.load_dataset(write_run(tmp_path / "gat", row(7, file=str(secret))))


@pytest.mark.parametrize("name", ["manifest.json", "images/000007.png"])
def test_a_pipe_in_a_run_is_refused_at_once(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "gat", row(7))
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe; expected a plain file"):
        data.load_dataset(run)


def test_another_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has no rows\.jsonl"):
        data.load_dataset(f"run-dir:{tmp_path}")


def test_an_unfinished_run_is_refused_with_its_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7))
    finish(run, None)
    with pytest.raises(ValueError, match=r"not finished \(1 of 2 images\).*: scoreag transform"):
        data.load_dataset(run)


def test_rows_without_a_manifest_are_no_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7))
    (run / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"there is no manifest\.json in it"):
        data.load_dataset(run)


def test_a_picture_that_was_changed_or_lost_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7), row(300))
    write_png(run / "images/000300.png", torch.zeros(3, 4, 4, dtype=torch.uint8))
    (run / "images/000007.png").unlink()
    with pytest.raises(ValueError, match=r"000300\.png is not what the run wrote"):
        data.load_dataset(f"{run}[1]")
    with pytest.raises(ValueError, match=r"000007\.png is not there any more"):
        data.load_dataset(f"{run}[0]")


def test_the_files_that_a_run_began_with_are_handed_on(tmp_path: Path) -> None:
    run = write_run(tmp_path / "gat", row(7, source="cat/a.png"), row(300, source="dog/b.png"))
    assert data.load_dataset(f"{run}[1]").files == ("dog/b.png",)
