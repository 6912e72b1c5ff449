"""Processes of torchrun share a run: what they join is the run of one process."""

import json
import os
import subprocess
import sys

import pytest

import tiny
from run_dirs.test_shards import PLAN
from scoreag.cli.app import main

TASK = [
    "transform", "--model", "prior", "--classifier", "net", "--data", "image-folder:images",
    "--batch-size", "2", "--reference-classifier", "none", "--steps", "2", "--max-restarts", "0",
    "--attack-scale", "20",
]  # fmt: skip
ASSESS = ["assess", "plan.toml", "--device", "cpu"]
ALONE = ("SCOREAG_DATA", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")


@pytest.fixture
def here(tmp_path, monkeypatch):
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 6)
    (tmp_path / "plan.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torchrun(words):
    """Two processes; what the first prints, and how they ended."""
    env = {name: value for name, value in os.environ.items() if name not in ALONE}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", "2", "-m", "scoreag"]  # fmt: skip
    return subprocess.run(
        [*launcher, *words], env={**env, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )


@pytest.mark.slow
def test_two_processes_make_the_run_of_one(here):
    ended = torchrun([*TASK, "--out", "both", "--json"])
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["images"] == 6
    assert main([*TASK, "--out", "one", "--quiet"]) == 0
    assert tiny.contents(here / "both") == tiny.contents(here / "one")
    assert not (here / "both.shards").exists()
    assert "shard" not in json.loads((here / "both" / "manifest.json").read_text())


def as_rank(monkeypatch, number, store, count=2):
    """This process becomes one of torchrun's, with a store that the test keeps."""
    given = {"TORCHELASTIC_RUN_ID": "x", "RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("scoreag.cli.torchrun._connect", lambda rank: store)


class Store(dict):
    """The store of torchrun, in this process."""

    def set(self, key, value):
        self[key] = value

    def check(self, keys):
        return all(key in self for key in keys)


def timeless(folder):
    """Rows, pictures and main tables: what tells neither how long it took nor by how many."""
    kept = ("rows.jsonl", "images/", "originals/", "tables/cells")
    return {name: data for name, data in tiny.contents(folder).items()
            if any(word in name for word in kept)}  # fmt: skip


@pytest.mark.parametrize("words", [TASK, ASSESS], ids=["task", "assess"])
def test_the_first_process_joins_what_all_computed(here, monkeypatch, capsys, words):
    store, command = Store(), [*words, "--out", "both"]
    for number in (1, 0):
        as_rank(monkeypatch, number, store)
        assert main([*command, "--json"]) == 0
        printed = capsys.readouterr().out
        assert bool(printed) == (number == 0)
    assert json.loads(printed)
    before = timeless(here / "both")
    for number in (0, 1):  # again: nothing is left to do
        as_rank(monkeypatch, number, None)
        assert main([*command, "--quiet"]) == 0
    as_rank(monkeypatch, 0, None)
    table = ["--format", "csv"] if words is ASSESS else []  # also of what is finished
    assert main([*command, *table]) == 0
    assert not table or capsys.readouterr().out.count("\n") > 1
    assert timeless(here / "both") == before and not (here / "both.shards").exists()
    as_rank(monkeypatch, 0, store, count=1)  # alone: as without torchrun
    assert main([*words, "--out", "one", "--quiet"]) == 0
    assert timeless(here / "one") == before and len(before) > 12


@pytest.mark.parametrize(
    "words, told",
    [
        ([*TASK, "--shard", "1/2"], "--shard splits it, too"),
        ([*TASK, "--ray", "local"], "--ray splits it, too"),
        ([*ASSESS, "--workers", "2"], "--workers splits it, too"),
        ([*TASK, "--format", "parquet"], "--format is parquet"),
    ],
)
def test_what_torchrun_does_not_split_is_refused(here, monkeypatch, capsys, words, told):
    as_rank(monkeypatch, 0, None)
    before = sorted(here.rglob("*"))
    assert main([*words, "--out", "out"]) == 2
    assert told in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_more_processes_than_batches_are_told_without_words_that_nobody_typed(
    here, monkeypatch, capsys
):
    as_rank(monkeypatch, 1, Store(), count=4)
    assert main([*TASK, "--out", "out", "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "torchrun started 4 processes, but there are 3 batches" in told
    assert "at most 3 processes" in told and "--shard" not in told


def test_a_command_that_torchrun_does_not_split_is_refused(here, monkeypatch, capsys):
    as_rank(monkeypatch, 1, None)
    assert main(["list", "samplers"]) == 2
    told = capsys.readouterr().err
    assert "does not split; start it alone" in told and told.count("\n") == 1


def test_a_missing_out_is_told_as_without_torchrun(here, monkeypatch, capsys):
    as_rank(monkeypatch, 0, None)
    assert main(ASSESS) == 2
    assert "--out is missing" in capsys.readouterr().err and not (here / ".shards").exists()


def test_each_process_of_a_machine_has_a_gpu_of_its_own(here, monkeypatch):
    devices = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "scoreag.cli.options.DeviceOptions.load_prior", lambda self, *_: devices.append(self.device)
    )
    for number in range(4):
        as_rank(monkeypatch, number, Store(), count=4)
        main([*TASK, "--out", "out", "--quiet"])
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
