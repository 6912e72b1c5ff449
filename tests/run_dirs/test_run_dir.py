import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import scoreag
import tiny
from scoreag.core import ALGORITHM
from scoreag.io.manifest import NON_IDENTITY_KEYS, diff_manifests, read_manifest, write_manifest
from scoreag.io.run_dir import RunFiles, delete_owned, open_run_dir
from scoreag.methods.result import TASK_FILES
from scoreag.methods.run_task import run_task
from scoreag.training.outputs import TRAINING_FILES


def opened(folder, manifest):
    return open_run_dir(folder, manifest, TASK_FILES)


def changed(job, **settings):
    return replace(job, config=replace(job.config, **settings))


def test_a_changed_setting_is_refused_by_name_with_both_values(job, run):
    before = tiny.contents(run)
    with pytest.raises(ValueError, match=r"config\.attack_scale was 30\.0 and is now 31\.0.*--ov"):
        run_task(changed(job, attack_scale=31.0), run, write_every=4, batch_size=4)
    assert tiny.contents(run) == before


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda job: replace(job, seed=1), "seed was 0 and is now 1"),
        (lambda job: job.select(range(6)), "images was 10 and is now 6"),
        (lambda job: replace(job, images=1 - job.images), "data.rows_sha256 was"),
        (
            lambda job: replace(job, target=torch.tensor([1] * 10)),
            "target was 'runner_up' and is now",
        ),
        (
            lambda job: changed(job, attack_interval=(0.1, 10.0)),
            "config.attack_interval was None and",
        ),
    ],
)
def test_whatever_determines_the_images_may_not_change(job, run, change, told):
    with pytest.raises(ValueError, match=told):
        run_task(change(job), run, write_every=4, batch_size=4)


@pytest.mark.parametrize("before", [None, 99], ids=["unmarked", "other"])
def test_a_run_of_another_algorithm_is_refused_in_one_line(job, run, before):
    """Whatever else differs: the other differences would not be the reason."""
    marked = read_manifest(run)
    assert marked.pop("algorithm") == ALGORITHM
    write_manifest(run, marked if before is None else {**marked, "algorithm": before})
    kept = tiny.contents(run)
    with pytest.raises(ValueError, match=rf"algorithm {before or 1}, and .* {ALGORITHM}, ") as told:
        run_task(replace(job, seed=1), run, write_every=4, batch_size=4)
    assert "\n" not in str(told.value) and tiny.contents(run) == kept


@pytest.mark.parametrize("name", ["torch", "scoreag"])
def test_a_run_of_other_versions_resumes_with_a_warning(job, run, name):
    marked = read_manifest(run)
    write_manifest(run, {**marked, "versions": {**marked["versions"], name: "0.0.1"}})
    with pytest.warns(UserWarning, match=rf"{name} 0\.0\.1 is now .* rounding"):
        run_task(job, run, write_every=4, batch_size=4)


def test_every_manifest_names_the_algorithm(tmp_path):
    """Whatever kind of run: its folder is opened in one place, where the algorithm is added."""
    with open_run_dir(tmp_path, {"task": "of any kind"}, RunFiles(("it",))):
        assert read_manifest(tmp_path)["algorithm"] == ALGORITHM
    assert "algorithm" not in NON_IDENTITY_KEYS
    sources = [file.read_text() for file in Path(scoreag.__file__).parent.rglob("*.py")]
    assert sum("write_manifest(" in text for text in sources) == 2  # where it is made, and there


@pytest.mark.parametrize(
    "change", [{"sigma_start": 0.5}, {"draws": 2}, {"seed": 1}, {"purifier": "diffpure"}], ids=str
)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_another_defense_of_the_same_network_is_another_run(job, tmp_path, change, inside):
    def asked(**options):
        words = {"purifier": "one_step_denoising", "sigma_start": 0.6, **options}
        defense = scoreag.defend(tiny.victim(), tiny.prior(), words.pop("purifier"), **words)
        return torch.nn.Sequential(torch.nn.Identity(), defense).eval() if inside else defense

    some = replace(job.select(range(2)), config=replace(job.config, max_restarts=0))
    run_task(replace(some, classifier=asked()), tmp_path / "run", batch_size=2)
    run_task(replace(some, classifier=asked()), tmp_path / "run", batch_size=2)
    with pytest.raises(ValueError, match=r"models\.classifier\.defenses was"):
        run_task(replace(some, classifier=asked(**change)), tmp_path / "run", batch_size=2)


def test_another_network_behind_the_same_name_is_another_run(job, run):
    other = tiny.wrap_classifier(tiny.filled(tiny.small_cnn(**tiny.CNN), 11))
    with pytest.raises(ValueError, match=r"models\.classifier\.sha256 was"):
        run_task(replace(job, classifier=other), run, write_every=4, batch_size=4)


def test_overwrite_starts_afresh_and_leaves_other_peoples_files(job, run):
    (run / "notes.txt").write_text("mine")
    (run / "images" / "mine.txt").write_text("mine too")
    run_task(changed(job, max_restarts=0).select(range(4)), run, batch_size=4, overwrite=True)
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "images" / "mine.txt").read_text() == "mine too"
    assert len(list(run.glob("images/*.png"))) == 4
    assert read_manifest(run)["config"]["max_restarts"] == 0


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_no_run_is_left_alone(job, tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("ten years")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        run_task(job, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"name": "my web app"}'])
def test_somebody_elses_manifest_is_no_run(job, tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        run_task(job, tmp_path, overwrite=True)
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_file_in_the_place_of_the_folder_is_refused(job, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="is a file; --out takes a folder"):
        run_task(job, tmp_path / "out")


def test_a_folder_that_could_not_be_begun_is_not_left_behind(tmp_path):
    with pytest.raises(ValueError), opened(tmp_path / "new" / "deep", {"value": float("nan")}):
        pass
    assert not (tmp_path / "new").exists()


def test_two_processes_do_not_write_to_one_folder(job, run):
    place = os.open(run, os.O_RDONLY)
    fcntl.flock(place, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is writing to"):
        run_task(job, run, write_every=4, batch_size=4)
    os.close(place)
    run_task(job, run, write_every=4, batch_size=4)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_without_locks_is_warned_of(job, tmp_path, monkeypatch, number):
    def no_locks(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="has no locks .*no second process writes there"):
        run_task(job.select(range(4)), tmp_path / "run", batch_size=4)
    assert len(list((tmp_path / "run/images").iterdir())) == 4


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_another_holds_is_none_that_is_lacking(job, tmp_path, monkeypatch, number):
    def held(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", held)
    with pytest.raises(ValueError, match="another process is writing to"):
        run_task(job.select(range(4)), tmp_path / "run", batch_size=4)
    assert not (tmp_path / "run").exists()


def test_clearing_keeps_the_manifest_until_the_end(run):
    delete_owned(run, TASK_FILES)
    assert [path.name for path in run.iterdir()] == ["manifest.json"]


def test_no_run_says_that_it_is_none(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: there is no manifest\.json in it"):
        read_manifest(tmp_path)


def test_a_running_run_is_not_cleared_away(job, run):
    before, same = tiny.contents(run), read_manifest(run)
    with opened(run, same), pytest.raises(ValueError, match="another process is writing to"):
        run_task(job, run, write_every=4, batch_size=4, overwrite=True)
    assert tiny.contents(run) == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_does_not_take_the_place_of_a_training(run, overwrite):
    told = "holds the files of 'transform', which 'train classif"
    with (
        pytest.raises(ValueError, match=told),
        open_run_dir(run, {"task": "train classifier"}, TRAINING_FILES, overwrite),
    ):
        pass
    assert (run / "rows.jsonl").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_killed_writes_left_is_deleted(job, run, overwrite):
    for name in (".manifest.json.123", "images/.000020.png.99", ".notes.txt.5"):
        (run / name).write_text("half")
    run_task(job, run, write_every=4, batch_size=4, overwrite=overwrite)
    assert [path.name for path in run.rglob(".*")] == [".notes.txt.5"]


def test_a_folder_with_half_a_manifest_only_is_empty(job, tmp_path):
    (tmp_path / ".manifest.json.123").write_text("{")
    run_task(job.select(range(4)), tmp_path, batch_size=4)
    assert not (tmp_path / ".manifest.json.123").exists()


def test_any_failure_at_once_leaves_no_fresh_folder(tmp_path):
    out = tmp_path / "new" / "deep"
    with pytest.raises(OSError), opened(out, {}):
        assert (out / "manifest.json").exists()
        raise OSError("no memory")
    assert not (tmp_path / "new").exists()


def test_names_are_told_before_digests():
    old = {"data": {"sha256": "a", "name": "x"}, "labels": [0]}
    new = {"data": {"sha256": "b", "name": "y"}, "labels": [1]}
    assert [told.split()[0] for told in diff_manifests(old, new)] == [
        "data.name",
        "labels",
        "data.sha256",
    ]
