"""--dry-run of every verb that works long: what it tells is what the run then takes."""

import itertools
import json

import pytest

from scoreag.certify.run import seconds_per_unit
from scoreag.cli.app import main
from scoreag.methods import dry_run

pytestmark = pytest.mark.usefixtures("one_thread")

CALM = ["--attack-scale", "3", "--max-restarts", "0", "--steps", "2"]
TASKS = {
    "synthesize": ["--classes", "0,1,2", "--per-class", "3", "--classifier", "net", *CALM],
    "transform": ["--data", "image-folder:images", "--classifier", "net", *CALM],
    "purify": ["--data", "image-folder:images", "--classifier", "net", "--steps", "2"],
}


def told(words, capsys):
    assert main([*words, "--dry-run", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", TASKS)
def test_a_task_takes_the_calls_and_the_disk_that_were_told(planned, tmp_path, capsys, verb):
    folder = tmp_path / "out"
    words = [verb, "--model", "prior", *TASKS[verb], "--batch-size", "4", "--out", str(folder)]
    before = sorted(planned.rglob("*"))
    cost = told(words, capsys)
    assert not folder.exists() and sorted(planned.rglob("*")) == before
    assert main([*words, "--quiet"]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert cost["images"] == summary["images"] and cost["measured_on"] == 4
    assert cost["score_model_calls"] == summary["nfe"]["sum"]
    assert cost["memory_mb"] > 50 and cost["seconds"] > 0
    files = [f for f in folder.rglob("*") if f.suffix in (".png", ".jsonl")]
    disk = sum(file.stat().st_size for file in files) / 2**20
    assert cost["disk_mb"] == pytest.approx(disk, rel=0.1, abs=0.006)


def test_the_time_is_that_of_all_batches(planned, capsys, monkeypatch):
    """Nine images are three batches of four, of ten seconds each on this clock."""
    clock = itertools.count(0, 10)
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: float(next(clock)))
    words = ["synthesize", "--model", "prior", *TASKS["synthesize"], "--out", "out"]
    assert told([*words, "--batch-size", "4"], capsys)["seconds"] == 30.0
    assert told([*words, "--batch-size", "0", "--write-every", "6"], capsys)["seconds"] == 15.0


def test_a_part_of_a_batch_is_enough_to_time_it(monkeypatch):
    seen = []

    def compute_rows(number, on_progress):
        for _ in range(1000):
            seen.append(number)
            clock[0] += 2.0
            on_progress(100)
        return []

    clock = [0.0]
    monkeypatch.setattr("scoreag.certify.run.time.perf_counter", lambda: clock[0])
    assert seconds_per_unit(compute_rows, 7) == 0.02
    assert len(seen) == 2  # the second ended it, after four seconds


SMOOTH = ["--classifier", "net", "--data", "image-folder:images[0:4]", "--n", "60", "--n0", "5"]


@pytest.mark.parametrize(
    "words, images",
    [
        (["--model", "prior", *SMOOTH], 4),
        (["--transform", "blur", *SMOOTH], 4),
        (["--model", "prior", "--classifier", "net", "--generative", "--per-class", "2",
          "--steps", "2"], 6),
        (["--model", "prior", "--classifier", "net", "--generative", "--per-class", "2",
          "--steps", "3", "--sampler", "ancestral", "--energy", "0.5,1", "--attack-per-class",
          "1"], 12),
    ],
)  # fmt: skip
def test_certificates_tell_their_time_and_write_nothing(planned, capsys, words, images):
    cost = told(["certify", *words, "--out", "out"], capsys)
    assert cost["images"] == images and cost["seconds"] >= 0 and cost["memory_mb"] > 50
    assert cost.get("copies_of_an_image", 65) == 65
    assert not (planned / "out").exists()


@pytest.mark.parametrize("kind", ["score-model", "classifier"])
def test_trainings_tell_their_time_and_write_nothing(tmp_path, capsys, kind):
    preset = {"score-model": "tiny", "classifier": "fashion-cnn"}[kind]
    words = ["train", kind, "--preset", preset, "--data", "fashion-mnist:sample", "--batch-size",
             "32", "--train-images", "1000", "--out", str(tmp_path / "out")]  # fmt: skip
    cost = told(words, capsys)
    assert cost["images"] == 1000 and cost["seconds"] > 0
    assert not (tmp_path / "out").exists()
    assert main([*words, "--dry-run"]) == 0
    assert "time" in capsys.readouterr().out


def test_images_that_are_computed_again_share_batches_in_the_forecast(monkeypatch):
    """Against a queue that is played: a round takes the images that are left, in full batches."""
    tries, size = [5, 1, 2, 1, 1, 3, 2, 1], 8
    for images in (8, 16, 40):
        played, left = 0, tries * (images // size)
        while left:
            played += -(-len(left) // size)
            left = [one - 1 for one in left if one > 1]
        assert dry_run.count_batches(tries, images, size) == played
    assert dry_run.count_all_batches(tries, 40, size, 16) == 2 * (2 + 1 + 1 + 1 + 1) + 5
    assert dry_run.count_all_batches([1], 41, size, 16) == 6
