"""The options of large runs: the same rows by Ray, and pictures in shards."""

import json
import pickle
import shutil
import sys
import tarfile

import pytest
import torch
from ray import cloudpickle

import tiny
from scoreag.cli.app import main
from scoreag.io.records import read_rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 6)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """A copy of it as the working directory."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture
def sizes(monkeypatch):
    """What is sent to workers: bytes of what all share, and of each task.  The last is done first.

    It is pickled as Ray does it.  A certificate sends functions inside functions, which the type
    checks of tests wrap so that they cannot be pickled: tests/end_to_end/test_on_ray.py sends them.
    """
    found = {"shared": [], "task": []}

    def run_elsewhere(function, shared, tasks, options):
        assert options.address == "local" and options.workers == 3 and not options.uses_gpu
        is_certificate = callable(shared)
        data = b"" if is_certificate else cloudpickle.dumps((function, shared))
        found["shared"].append(len(data))
        done = []
        for key, argument in tasks:
            text = pickle.dumps(argument)
            found["task"].append(len(text))
            one, common = (function, shared) if is_certificate else cloudpickle.loads(data)
            done.append((key, one(common, pickle.loads(text))))
        yield from done[::-1]

    monkeypatch.setattr("scoreag.methods.run_task.run_on_ray", run_elsewhere)
    monkeypatch.setattr("scoreag.certify.run.run_on_ray", run_elsewhere)
    return found


MODELS = ["--model", "prior", "--classifier", "net"]
SMALL = ["--batch-size", "2", "--write-every", "2"]
RAY = ["--ray", "local", "--workers", "3", "--quiet"]
DATA = ["--data", "image-folder:images"]
SMOOTH = ["certify", *MODELS, *DATA, "--n", "20", "--n0", "10", "--alpha", "0.05"]
COMMANDS = {
    "synthesize": ["synthesize", *MODELS, "--per-class", "2", *SMALL],
    "transform": ["transform", *MODELS, *DATA, *SMALL],
    "purify": ["purify", *MODELS, *DATA, *SMALL],
    "certify": SMOOTH,
    "certify a transform": ["certify", "--classifier", "net", *DATA, "--transform", "blur",
                            "--n", "20", "--n0", "10", "--alpha", "0.05"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_files_by_ray_are_those_of_one_process(here, sizes, name):
    assert main([*COMMANDS[name], "--out", "alone", "--quiet"]) == 0
    assert sizes["task"] == []
    assert main([*COMMANDS[name], "--out", "sent", *RAY]) == 0
    assert tiny.contents(here / "sent") == tiny.contents(here / "alone")
    assert len(sizes["shared"]) == 1 and max(sizes["task"]) < 10_000
    assert len(sizes["task"]) == (6 if "certify" in name else 3)
    assert "certify" in name or sizes["shared"][0] > 10_000  # the networks are in it


def test_a_run_in_shards_is_data_for_the_next(here):
    words = [*COMMANDS["transform"], "--format", "webdataset", "--quiet"]
    assert main([*words, "--out", "gat"]) == 0
    with tarfile.open("gat/images/000000.tar") as archive:
        assert len(archive.getnames()) == 18  # picture, original and row of six
    assert main(["purify", *MODELS, "--data", "gat", "--out", "gap", *SMALL, "--quiet"]) == 0
    labels = [row["label"] for row in read_rows(here / "gat")]
    assert [row["label"] for row in read_rows(here / "gap")] == labels
    assert main(["report", "gat"]) == 0


def test_a_dry_run_shares_the_time_among_workers_and_writes_nothing(here, capsys):
    words = [*COMMANDS["synthesize"], "--ray", "local", "--workers", "3", "--dry-run"]
    assert main([*words, "--out", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["workers"] == 3
    assert not (here / "none").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["--workers", "2"], "--workers is of Ray; write --ray local, auto or HOST:PORT"),
        (["--format", "zip"], "--format is 'zip'; there are: png, webdataset, parquet"),
        (["--ray", "local", "--workers", "0"], "--workers is 0; expected 1 or more"),
    ],
)
def test_a_wrong_word_is_wrong_usage(here, capsys, words, message):
    assert main([*COMMANDS["synthesize"], "--out", "none", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not (here / "none").exists()


def test_without_pyarrow_it_is_said_what_to_install(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main([*COMMANDS["synthesize"], "--out", "none", "--format", "parquet"]) == 1
    assert "pip install 'scoreag[parquet]'" in capsys.readouterr().err
    assert not (here / "none").exists()
