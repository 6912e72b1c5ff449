import hashlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from scoreag.io.records import read_rows
from scoreag.io.resume import group_batches
from scoreag.methods.purification import build_purification
from scoreag.methods.run_task import run_task, target_source
from scoreag.methods.synthesis import build_synthesis


def pixels(file):
    """Read by another library than the one under test uses for tensors: height, width, colour."""
    return np.asarray(Image.open(file)).astype(int)


def test_the_same_job_twice_gives_the_same_files(job, run, tmp_path):
    run_task(job, tmp_path / "again", write_every=4, batch_size=4)
    assert tiny.contents(tmp_path / "again") == tiny.contents(run)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_the_files_do_not_depend_on_the_batch_size(job, run, tmp_path, batch_size):
    run_task(job, tmp_path / "other", write_every=batch_size, batch_size=4)
    assert tiny.contents(tmp_path / "other") == tiny.contents(run)


def test_groups_are_whole_micro_batches_that_fill_a_batch():
    pieces = [range(0, 4), range(4, 8), range(8, 10)]
    assert list(group_batches(pieces, 5)) == [pieces[:2], pieces[2:]]


def test_the_outcomes_of_this_job_are_mixed(run):
    """Otherwise the tests of this file would pass with many a mistake."""
    rows = read_rows(run)
    assert {row["success"] for row in rows} == {True, False}
    assert {row["restarts"] for row in rows} == {0, 1}
    assert any(row["predictions"]["before"] != row["label"] for row in rows)


def test_rows_are_in_the_order_of_the_job_and_name_their_files(run):
    rows = read_rows(run)
    assert [row["image_id"] for row in rows] == list(range(20, 30))
    assert rows[3]["file"] == "images/000023.png"
    assert rows[3]["original_file"] == "originals/000023.png"
    for row in rows:
        assert hashlib.sha256((run / row["file"]).read_bytes()).hexdigest() == row["sha256"]


def test_verdicts_are_what_the_classifier_says_of_the_files(run):
    victim = tiny.victim()
    for row in read_rows(run):
        seen = torch.tensor(pixels(run / row["file"])).permute(2, 0, 1)[None] / 255
        said = int(victim(seen).argmax())
        assert row["predictions"]["saved"] == said
        assert row["success"] == (said != row["label"])
        assert row["targeted_success"] == (said == row["target"])


def test_distances_are_those_between_the_files(run):
    for row in read_rows(run):
        moved = (pixels(run / row["file"]) - pixels(run / row["original_file"])) / 255
        assert row["distances"]["linf"] == pytest.approx(np.abs(moved).max(), abs=1e-6)
        assert row["distances"]["l2"] == pytest.approx(np.sqrt((moved**2).sum()), abs=1e-6)


def test_originals_are_the_given_images(run):
    given = tiny.images(10)
    for i, row in enumerate(read_rows(run)):
        assert (pixels(run / row["original_file"]) == given[i].permute(1, 2, 0).numpy()).all()


def test_a_retry_was_at_doubled_strength_and_its_calls_are_added(run):
    rows = read_rows(run)
    assert {(row["restarts"], row["attack_scale"]) for row in rows} == {(0, 30.0), (1, 60.0)}
    first, second = ({r["nfe"] for r in rows if r["restarts"] == n} for n in (0, 1))
    assert second == {2 * calls for calls in first}


def test_rows_hold_no_time(run):
    known = {
        "image_id", "label", "target", "target_source", "predictions", "success_float", "success",
        "targeted_success", "restarts", "guidance_skipped", "attack_scale", "similarity", "found",
        "seed", "nfe", "distances", "probabilities", "file", "sha256", "original_file",
        "original_sha256",
    }  # fmt: skip
    assert all(set(row) == known for row in read_rows(run))


def test_the_manifest_says_what_determined_the_run(run):
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["config"]["attack_scale"] == 30.0 and manifest["seed"] == 0
    assert set(manifest["models"]) == {"score-model", "classifier"}
    assert all(len(model["sha256"]) == 64 for model in manifest["models"].values())
    assert manifest["started"] <= manifest["finished"]


def test_unpadded_the_batch_size_is_part_of_the_settings(job, tmp_path):
    run_task(job, tmp_path, write_every=5, batch_size=0)
    with pytest.raises(ValueError, match="write_every was 5 and is now 4"):
        run_task(job, tmp_path, write_every=4, batch_size=0)


def test_synthesis_has_no_originals_and_no_distances(tmp_path):
    job = build_synthesis(tiny.prior(), tiny.victim(), [0, 2, 2], max_restarts=0)
    figures = run_task(job, tmp_path, batch_size=4)
    rows = read_rows(tmp_path)
    assert [row["image_id"] for row in rows] == [0, 2_000_000, 2_000_001]
    assert not (tmp_path / "originals").exists() and "distances" not in rows[0]
    assert figures["rates"]["success"]["of"] == "all images" and figures["medians"] == {}


def test_purification_without_a_classifier_judges_nothing(tmp_path):
    figures = run_task(build_purification(tiny.prior(), tiny.images(3)), tmp_path, batch_size=4)
    row = read_rows(tmp_path)[0]
    assert row["predictions"] == {"before": None, "float": None, "saved": None}
    assert row["success"] is None and row["target_source"] is None
    assert figures["rates"] == {} and set(figures["medians"]) == {"l0", "l1", "l2", "linf"}


def test_a_purification_says_nothing_of_settings_that_no_classifier_obeyed(tmp_path):
    job = build_purification(tiny.prior(), tiny.images(3), tiny.victim(), tiny.labels(3))
    run_task(job, tmp_path, batch_size=4)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    of_the_classifier = {
        "attack_scale", "attack_interval", "attack_loss", "normalize_gradient", "stop_margin",
        "max_restarts", "polyak_step", "momentum", "tangent_projection", "x0_steps",
        "augmentations",
    }  # fmt: skip
    assert not of_the_classifier & manifest["config"].keys()
    assert {"similarity", "sigma_start", "likelihood_variance"} < manifest["config"].keys()
    assert [row["attack_scale"] for row in read_rows(tmp_path)] == [None] * 3


def test_purification_with_a_classifier_counts_the_right_answers_before_and_after(tmp_path):
    job = build_purification(tiny.prior(), tiny.images(5), tiny.victim(), tiny.labels(5))
    figures = run_task(job, tmp_path, batch_size=4)
    rates, rows = figures["rates"], read_rows(tmp_path)
    assert rates["accuracy_before"]["count"] == 4  # of five, the fourth has a wrong label
    after = sum(row["predictions"]["saved"] == row["label"] for row in rows)
    assert rates["accuracy_after"]["count"] == after and rates["accuracy_after"]["total"] == 5


@pytest.mark.parametrize(
    "target, word, source",
    [
        ("runner_up", "runner_up", "runner_up"),
        (None, "none", "untargeted"),
        (torch.tensor([1] * 10), "1", "given"),
        (torch.tensor([1] * 10), "random", "random"),
    ],
)
def test_a_row_says_who_chose_the_target(job, target, word, source):
    assert target_source(replace(job, target=target), {"target": word}) == source


def test_an_untargeted_row_wants_no_class_in_particular(job, tmp_path):
    run_task(replace(job, target=None).select(range(4)), tmp_path, batch_size=4)
    for row in read_rows(tmp_path):
        assert row["target"] is None and row["target_source"] == "untargeted"
        assert row["targeted_success"] == row["success"]


def test_nonsensical_sizes_are_refused_before_anything_is_written(job, tmp_path):
    with pytest.raises(ValueError, match="write-every is 0; expected 1 or more"):
        run_task(job, tmp_path / "new", write_every=0, batch_size=4)
    assert not (tmp_path / "new").exists()


def test_a_micro_batch_that_fills_the_memory_is_refused(job, tmp_path):
    with pytest.raises(ValueError, match=r"batch-size is 5000.* at most 4096"):
        run_task(job, tmp_path / "new", batch_size=5000)
    assert not (tmp_path / "new").exists()


def test_an_exploding_chain_is_refused_and_leaves_nothing(job, tmp_path):
    config = replace(job.config, attack_scale=math.inf)
    with pytest.raises(ValueError, match=r"exploded: \d of 4 .*attack_scale inf.* --attack-scale"):
        run_task(replace(job, config=config), tmp_path / "new", batch_size=4)
    assert not (tmp_path / "new").exists()


def test_an_exploding_purification_names_no_strength(tmp_path):
    job = build_purification(tiny.prior(), tiny.images(2))
    job = replace(job, config=replace(job.config, similarity=math.nan))
    with pytest.raises(
        ValueError, match=r"2 of 2 .*\(ids 0, 1\) at similarity nan, 2 steps"
    ) as told:
        run_task(job, tmp_path / "new", batch_size=4)
    assert "attack_scale" not in str(told.value)


def test_rows_name_the_files_that_the_images_came_from(job, tmp_path):
    run_task(job.select(range(2)), tmp_path, {"sources": {20: "cat/a.png"}}, batch_size=4)
    assert [row.get("source") for row in read_rows(tmp_path)] == ["cat/a.png", None]
