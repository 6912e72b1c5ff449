"""What an interrupted run leaves behind is completed to the files of an uninterrupted one."""

import json
import shutil
from dataclasses import replace

import pytest

import tiny
from scoreag.io.records import read_rows as rows
from scoreag.methods.run_batch import run_batch
from scoreag.methods.run_task import run_task


@pytest.fixture
def hurt(run):
    """A run that is about to be damaged."""
    return run


def cut_the_last_line(folder):
    rows = folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])


def lose_a_picture(folder):
    (folder / "images/000025.png").unlink()


def change_a_picture(folder):
    shutil.copy(folder / "images/000020.png", folder / "images/000025.png")


def lose_an_original(folder):
    (folder / "originals/000020.png").unlink()


def lose_all_rows(folder):
    (folder / "rows.jsonl").unlink()


def garble_a_line(folder):
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join([*lines[:5], "{\n", *lines[6:]]))


def swap_two_lines(folder):
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join([lines[1], lines[0], *lines[2:]]))


@pytest.mark.parametrize(
    "damage",
    [
        cut_the_last_line, lose_a_picture, change_a_picture, lose_an_original, lose_all_rows,
        garble_a_line, swap_two_lines,
    ],
)  # fmt: skip
def test_damage_is_repaired_to_the_same_files(job, finished, hurt, damage):
    damage(hurt)
    assert tiny.contents(hurt) != tiny.contents(finished)
    run_task(job, hurt, write_every=8, batch_size=4)
    assert tiny.contents(hurt) == tiny.contents(finished)


def test_only_the_micro_batch_of_a_lost_picture_is_computed_again(job, hurt):
    before = {path: path.stat().st_mtime_ns for path in hurt.glob("images/*")}
    lose_a_picture(hurt)  # number 25 is in the micro-batch 24-27
    run_task(job, hurt, write_every=4, batch_size=4)
    renewed = {int(p.stem) for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert renewed == {24, 25, 26, 27}


def test_a_finished_run_is_left_as_it_is(job, hurt):
    before = {path: path.stat().st_mtime_ns for path in hurt.rglob("*.png")}
    manifest = (hurt / "manifest.json").read_bytes()
    run_task(job, hurt, write_every=4, batch_size=4)
    assert {path: path.stat().st_mtime_ns for path in hurt.rglob("*.png")} == before
    assert (hurt / "manifest.json").read_bytes() == manifest


def test_the_first_start_is_remembered(job, hurt):
    started = json.loads((hurt / "manifest.json").read_text())["started"]
    lose_a_picture(hurt)
    run_task(job, hurt, write_every=4, batch_size=4)
    assert json.loads((hurt / "manifest.json").read_text())["started"] == started


def test_what_was_computed_before_a_stop_is_kept(job, tmp_path, monkeypatch):
    """Images that are never sampled again are done batch by batch."""
    asked, once = [], replace(job, config=replace(job.config, max_restarts=0))
    run_task(once, tmp_path / "whole", write_every=64, batch_size=4)

    def stopped_at_the_third(piece, pad_to, advance):
        asked.append(piece)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return run_batch(piece, pad_to, advance)

    monkeypatch.setattr("scoreag.methods.run_task.run_batch", stopped_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run_task(once, tmp_path / "cut", write_every=64, batch_size=4)
    assert [row["image_id"] for row in rows(tmp_path / "cut")] == list(range(20, 28))
    run_task(once, tmp_path / "cut", write_every=64, batch_size=4)
    assert len(asked) == 4
    assert tiny.contents(tmp_path / "cut") == tiny.contents(tmp_path / "whole")
