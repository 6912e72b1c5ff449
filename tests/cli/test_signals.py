"""SIGTERM and SIGHUP end a verb as Ctrl-C does: what is computed is written, one line says so."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import tiny
from scoreag.__main__ import SPIN_COUNT, limit_spinning
from scoreag.cli.app import main
from scoreag.core.signals import STOP_SIGNALS, handle_signal

SIGNALS = [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 12)
    return folder


@pytest.fixture(autouse=True)
def taken_over():
    """Signals as they are answered once a command has begun; see ``scoreag.core.signals``."""
    before = {number: signal.signal(number, handle_signal) for number in STOP_SIGNALS}
    yield
    for number, how in before.items():
        signal.signal(number, how)


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


def signalled(monkeypatch, where, at, number):
    """The function ``where`` sends this process a signal when it is called the ``at``-th time."""
    module, _, name = where.rpartition(".")
    work, calls = getattr(sys.modules[module], name), []

    def watched(*given, **more):
        calls.append(given)
        if len(calls) == at:
            os.kill(os.getpid(), number)
            time.sleep(5)  # until the handler runs
        return work(*given, **more)

    monkeypatch.setattr(where, watched)


MODELS = ["--model", "prior", "--classifier", "net", "--data", "image-folder:images", "--quiet"]
TRANSFORM = [
    "transform",
    *MODELS,
    "--batch-size",
    "4",
    "--write-every",
    "64",
    "--max-restarts",
    "0",
]
CERTIFY = ["certify", *MODELS, "--n", "30", "--n0", "10", "--alpha", "0.05"]
VERBS = {
    "transform": (TRANSFORM, "scoreag.methods.run_task.run_batch", 8),
    "certify": (CERTIFY, "scoreag.certify.smoothing.certify_image", 2),
}


@pytest.mark.parametrize("name, code", SIGNALS)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_computed_is_written_and_the_same_command_goes_on(
    here, capsys, monkeypatch, verb, name, code
):
    """Of a transformation all images are one batch: the two micro-batches that are done count."""
    import scoreag.certify.smoothing
    import scoreag.methods.run_task  # noqa: F401

    words, where, done = VERBS[verb]
    with monkeypatch.context() as patch:
        signalled(patch, where, 3, getattr(signal, name))
        assert main([*words, "--out", "out"]) == code
    err = capsys.readouterr().err
    assert err.startswith("scoreag: stopped; what is done is kept") and err.count("\n") == 1
    assert (here / "out/rows.jsonl").read_bytes().count(b"\n") == done
    assert main([*words, "--out", "out"]) == main([*words, "--out", "whole"]) == 0
    assert tiny.contents(here / "out") == tiny.contents(here / "whole")


@pytest.mark.parametrize("name, code", SIGNALS[:2])
def test_an_assessment_keeps_the_shards_that_are_done(
    planned, tmp_path, capsys, monkeypatch, name, code
):
    import scoreag.assess.run_attack  # noqa: F401

    words = ["assess", "plan.toml", "--only", "*/none/pgd*", "--write-every", "4", "--quiet"]
    with monkeypatch.context() as patch:
        signalled(patch, "scoreag.assess.run_attack.compute_rows", 2, getattr(signal, name))
        assert main([*words, "--out", str(tmp_path / "out")]) == code
    assert "stopped; what is done is kept" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("cells/*/*.jsonl"))) == 1
    assert main([*words, "--out", str(tmp_path / "out")]) == 0


def test_the_exit_code_of_the_process_says_the_signal(here):
    words = [*TRANSFORM, "--steps", "300", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scoreag", *words], env=tiny.ENVIRONMENT, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    while not (here / "out/manifest.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err.count("\n") == 1 and "stopped" in err


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_do_not_spin_for_long_unless_they_were_told_to(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    limit_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is removed again
