"""A run writes, reads and deletes what is its own, in its own folder, and nothing else."""

import os
import shutil
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.io.images import write_png
from scoreag.io.records import append_rows, read_complete_rows, read_rows
from scoreag.io.run_dir import open_run_dir, refuse_links
from scoreag.methods.result import TASK_FILES, Result
from scoreag.methods.run_task import run_task
from scoreag.report.task_run import render_run_page


def same(job, run, **more):
    return run_task(job, run, write_every=4, batch_size=4, **more)


def linked(path, aside):
    """``path`` as a link to what was there, and lies aside now."""
    path.rename(aside)
    path.symlink_to(aside)


def test_pictures_that_no_row_names_survive_overwriting(job, run):
    mine = [run / "images/mine.png", run / "images/999999.png", run / "originals/cat.png"]
    for file in mine:
        shutil.copy(run / "images/000020.png", file)
    same(replace(job, seed=3).select(range(4)), run, overwrite=True)
    left = sorted(path.name for path in run.glob("images/*"))
    assert left == [
        "000020.png",
        "000021.png",
        "000022.png",
        "000023.png",
        "999999.png",
        "mine.png",
    ]
    assert all(file.is_file() for file in mine)


def test_pictures_without_rows_that_a_killed_run_left_are_deleted(job, run):
    """The manifest names them: the run was killed after the pictures and before the rows."""
    (run / "rows.jsonl").unlink()
    same(replace(job, seed=3).select(range(2)), run, overwrite=True)
    assert sorted(path.name for path in run.glob("images/*")) == ["000020.png", "000021.png"]


def test_overwriting_a_training_or_an_evaluation_deletes_what_it_named_alone(tmp_path):
    from scoreag.evaluation.storage import EVALUATION_FILES
    from scoreag.training.outputs import TRAINING_FILES

    training = ["samples/000000120.png", "snapshots/000000064.safetensors", "checkpoint.pt",
                "tensorboard/events.out.tfevents.1.host"]  # fmt: skip
    evaluation = ["samples/class-002.png", "samples/nearest.png", "figures.json",
                  "parts/draws-own-000016.safetensors"]  # fmt: skip
    mine = ["samples/mine.png", "snapshots/best.safetensors", "parts/mine.safetensors",
            "tensorboard/events.txt", "samples/2024.png"]  # fmt: skip
    for files, written in ((TRAINING_FILES, training), (EVALUATION_FILES, evaluation)):
        folder = tmp_path / written[0].replace("/", "-")
        with open_run_dir(folder, {"task": "train x"}, files):
            for name in (*written, *mine):
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text("it")
        with open_run_dir(folder, {"task": "train x", "seed": 1}, files, overwrite=True):
            pass
        left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert left == {"manifest.json", *mine}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["images", "originals", "rows.jsonl", "manifest.json"])
def test_links_in_a_run_are_refused_and_what_they_lead_to_is_left(
    job, run, tmp_path, name, overwrite
):
    linked(run / name, tmp_path / "aside")
    before = tiny.contents(tmp_path)
    with pytest.raises(ValueError, match=f"{name} is a link, and a run keeps its own files there"):
        same(replace(job, seed=3), run, overwrite=overwrite)
    assert tiny.contents(tmp_path) == before


@pytest.mark.parametrize("name", ["images", "rows.jsonl"])
def test_the_report_of_a_run_with_links_is_refused(run, tmp_path, name):
    linked(run / name, tmp_path / "aside")
    with pytest.raises(ValueError, match=f"{name} is a link"):
        render_run_page(run)


def test_a_link_to_nothing_is_not_written_through(job, run, tmp_path):
    (run / "rows.jsonl").unlink()
    (run / "rows.jsonl").symlink_to(tmp_path / "new")
    with pytest.raises(ValueError, match=r"rows\.jsonl is a link"):
        same(job, run)
    assert not (tmp_path / "new").exists()


def test_a_saved_result_does_not_go_through_links(run, tmp_path):
    linked(run / "images", tmp_path / "aside")
    before = tiny.contents(tmp_path / "aside")
    zero = torch.zeros(1, dtype=torch.int64)
    result = Result("purify", torch.zeros(1, 3, 8, 8), zero + 20, zero, zero, zero)
    with pytest.raises(ValueError, match="images is a link"):
        result.save(run, overwrite=True)
    assert tiny.contents(tmp_path / "aside") == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_trainings_and_evaluations_do_not_go_through_links(tmp_path, overwrite):
    from scoreag.evaluation.storage import EVALUATION_FILES
    from scoreag.training.outputs import TRAINING_FILES

    for files, name in ((TRAINING_FILES, "snapshots"), (EVALUATION_FILES, "parts")):
        folder = tmp_path / name
        with open_run_dir(folder, {"task": "train x"}, files):
            (folder / name).symlink_to(tmp_path)
        with (
            pytest.raises(ValueError, match=f"{name} is a link"),
            open_run_dir(folder, {"task": "train x"}, files, overwrite),
        ):
            pass


@pytest.mark.parametrize("name", ["rows.jsonl", "manifest.json", "summary.json"])
def test_a_pipe_is_refused_at_once(job, run, name):
    (run / name).unlink()
    os.mkfifo(run / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe"):
        same(job, run)
    with pytest.raises(ValueError, match=r"is a pipe|has no summary\.json"):
        render_run_page(run)


def test_a_device_or_a_folder_as_rows_is_refused(job, run):
    (run / "rows.jsonl").unlink()
    (run / "rows.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"rows\.jsonl is a folder"):
        same(job, run)
    (run / "rows.jsonl").rmdir()
    (run / "rows.jsonl").symlink_to("/dev/zero")
    for reader in (read_rows, read_complete_rows):
        with pytest.raises(ValueError, match=r"rows\.jsonl is a device"):
            reader(run)


def test_a_pipe_as_picture_is_made_anew_and_refused_by_the_report(job, run, finished):
    (run / "images/000024.png").unlink()
    os.mkfifo(run / "images/000024.png")
    with pytest.raises(ValueError, match=r"000024\.png is a pipe"):
        render_run_page(run)
    same(job, run)
    assert tiny.contents(run) == tiny.contents(finished)


def test_the_report_shows_no_picture_but_those_of_the_rows(run, tmp_path):
    """A crafted row, whose digest holds: it names a picture that is somebody else's."""
    secret = tmp_path / "secret.png"
    write_png(secret, torch.zeros(3, 8, 8, dtype=torch.uint8))
    rows = read_rows(run)
    for name in ("../secret.png", str(secret)):
        (run / "rows.jsonl").unlink()
        append_rows(run, [rows[0] | {"file": name}, *rows[1:]])
        with pytest.raises(ValueError, match="which is outside its folder"):
            render_run_page(run)
    (run / "images/000020.png").unlink()
    (run / "images/000020.png").symlink_to(secret)
    (run / "rows.jsonl").unlink()
    append_rows(run, rows)
    with pytest.raises(ValueError, match="which is outside its folder"):
        render_run_page(run)


def test_a_picture_that_was_changed_is_not_shown(run):
    shutil.copy(run / "images/000020.png", run / "images/000021.png")
    with pytest.raises(ValueError, match=r"000021\.png is not what the run wrote"):
        render_run_page(run)


def test_a_plain_folder_has_nothing_to_refuse(run):
    (run / "images" / "mine").symlink_to(run)  # a user's own link, through which nothing goes
    refuse_links(run, TASK_FILES)
