"""A classifier's training, killed at any moment, goes on to the end of one that was not."""

import csv
import signal
import subprocess
import sys
import time

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.io.images import write_png
from scoreag.io.safe_unpickler import load_tensors

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSIFIER = [
    "train", "classifier", "--preset", "cifar10-resnet20", "--data", "image-folder:large",
    "--batch-size", "4", "--train-images", "60",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    source = Stream("large")
    for i in range(8):
        place = folder / "large" / tiny.CLASSES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        pixels = source.integers(256, (3, 32, 32)).to(torch.uint8)
        write_png(place / f"{i}.png", pixels)
    return folder


def full(words, out):
    return [*words, "--checkpoint-seconds", "0", "--quiet", "--out", out]


def killed(words, out, where, delay):
    """SIGKILL so many seconds after the first checkpoint, wherever the process then is."""
    file = where / out / "checkpoint.pt"
    process = subprocess.Popen(
        [sys.executable, "-m", "scoreag", *full(words, out)], cwd=where, env=tiny.ENVIRONMENT,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return load_tensors(file)["seen"]


def curve(folder):
    with (folder / "loss.csv").open() as file:
        return list(csv.reader(file))


def test_a_killed_training_loses_no_checkpoint_and_ends_the_same(data, monkeypatch):
    """The moment is as random as two processes on a machine are; the files do not depend on it."""
    seen = killed(CLASSIFIER, "killed", data, 0.05)
    monkeypatch.chdir(data)
    for name in ("killed", "whole"):  # in this process, which is quicker
        assert main(full(CLASSIFIER, name)) == 0
    again, whole = data / "killed", data / "whole"
    assert 0 < seen < 60
    assert curve(again) == curve(whole)
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not [path for path in again.rglob(".*") if path.is_file()]
