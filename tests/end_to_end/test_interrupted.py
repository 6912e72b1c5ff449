"""A process that is killed in the middle, started again, leaves the files of one that was not."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import tiny
from scoreag.cli.app import main

LIMIT = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
from scoreag.cli.app import main
sys.exit(main(sys.argv[1:]))
"""  # no file may grow beyond 6000 bytes: what a full disk is, without filling one


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 16)
    return folder


def command(out):
    return [
        "transform", "--model", "prior", "--classifier", "net", "--data", "image-folder:images",
        "--steps", "12", "--write-every", "4", "--batch-size", "4", "--out", out,
    ]  # fmt: skip


def training(out):
    return [
        "train", "score-model", "--preset", "tiny", "--data", "image-folder:images",
        "--batch-size", "1", "--train-images", "120", "--sample-every-images", "120",
        "--checkpoint-seconds", "0", "--out", out,
    ]  # fmt: skip


def start(words, where, program=("-m", "scoreag")):
    return subprocess.Popen(
        [sys.executable, *program, *words], cwd=where, env=tiny.ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(words, where, code=0, program=("-m", "scoreag")):
    process = start(words, where, program)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


def kill_when(there, words, where):
    """SIGKILL as soon as ``there()`` holds, and whether the process was still at work."""
    process = start(words, where)
    while not there() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def uninterrupted(words, where, monkeypatch):
    """The same in this process, which is quicker; also the processes have one thread."""
    monkeypatch.chdir(where)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main([*words, "--quiet"]) == 0
    torch.set_num_threads(before)


@pytest.fixture
def whole(made, monkeypatch):
    """The run that nothing interrupted."""
    uninterrupted(command("whole"), made, monkeypatch)
    return tiny.contents(made / "whole")


def test_a_killed_run_is_completed_to_the_same_files(made, whole):
    rows = made / "killed" / "rows.jsonl"
    assert kill_when(lambda: rows.exists() and rows.stat().st_size, command("killed"), made)
    assert not (made / "killed" / "summary.json").exists()
    finish(command("killed"), made)
    assert tiny.contents(made / "killed") == whole


def test_a_full_disk_leaves_whole_rows_and_a_line_that_says_so(made, whole):
    _, err = finish(command("full"), made, 1, ("-c", LIMIT))
    told = [line for line in err.splitlines() if not line.startswith("read ")]
    assert len(told) == 1 and told[0].startswith("scoreag: full/rows.jsonl: File too large")
    rows = (made / "full" / "rows.jsonl").read_bytes()
    assert whole["rows.jsonl"].startswith(rows) and rows.endswith(b"\n")
    assert not list((made / "full").rglob(".*"))
    finish(command("full"), made)
    assert tiny.contents(made / "full") == whole


def weights(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "loss.csv").read_bytes()


def test_a_killed_training_ends_with_the_same_weights(made, monkeypatch):
    file = made / "killed-model" / "checkpoint.pt"
    assert kill_when(file.exists, training("killed-model"), made)
    assert not (made / "killed-model" / "card.toml").exists()
    finish(training("killed-model"), made)
    uninterrupted(training("model"), made, monkeypatch)
    assert weights(made / "killed-model") == weights(made / "model")
