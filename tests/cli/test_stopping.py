"""A signal ends a command with one line and its own exit code, whenever it comes."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.core.signals import (
    CommandInterrupted,
    SignalInterrupt,
    defer_signals,
    format_interrupt,
)

SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass
except BaseException:
    pass
"""  # a module that catches whatever comes while it is imported
STARTS = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN if {ignored!r} == number.name else signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from scoreag.__main__ import run
print("begun", flush=True)
sys.exit(run())
"""
DOCTOR = ["doctor", "--classifier", "swallows:net", "--data", "foolbox-samples"]


def started(words, where, ignored=""):
    program = STARTS.format(ignored=ignored)
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=where, stderr=subprocess.PIPE, text=True,
        env={**tiny.ENVIRONMENT, "PYTHONPATH": f"{tiny.ENVIRONMENT['PYTHONPATH']}:{where}"},
        stdout=subprocess.PIPE,
    )  # fmt: skip


def last_line(err):
    """The only line but those that say what was read."""
    told = [line for line in err.splitlines() if not line.startswith("read ")]
    assert len(told) == 1, err
    return told[0]


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_a_module_is_imported_is_never_swallowed(tmp_path, name, code):
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(name=name))
    process = started(DOCTOR, tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert last_line(err).startswith("scoreag: stopped")


def test_what_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(name="SIGHUP"))
    process = started(DOCTOR, tmp_path, "SIGHUP")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "something is wrong with its loading" in err, err


def test_a_line_says_which_signal_and_how_to_go_on():
    again = "the same command goes on from there"
    assert format_interrupt([]) == f"stopped; what is done is kept, and {again}"
    told = format_interrupt(["--overwrite"], signal.SIGTERM, "nothing was saved yet")
    assert told == (
        "stopped; nothing was saved yet, and the same command without --overwrite "
        "goes on from there (SIGTERM)"
    )
    assert (
        CommandInterrupted(SignalInterrupt(signal.SIGHUP)).code,
        CommandInterrupted(KeyboardInterrupt()).code,
    ) == (129, 130)


@pytest.fixture
def at_a_terminal():
    """Signals as they are when a command begins, also where a shell ignores some of them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    usual |= {signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, how) for number, how in usual.items()}
    yield
    for number, how in before.items():
        signal.signal(number, how)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_those_that_may_come_twice_are_only_noted(at_a_terminal, name):
    number = getattr(signal, name)
    with defer_signals() as came:
        assert came() == 0
        for _ in range(2):
            signal.raise_signal(number)
        assert came() == number


def test_a_second_ctrl_c_ends_at_once(at_a_terminal):
    with pytest.raises(SignalInterrupt), defer_signals() as came:
        signal.raise_signal(signal.SIGINT)
        assert came() == signal.SIGINT
        signal.raise_signal(signal.SIGINT)


TRAIN = [
    "train", "score-model", "--preset", "tiny", "--data", "image-folder:images",
    "--batch-size", "4",    "--train-images", "4000", "--sample-every-images", "4000",
]  # fmt: skip


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_training_writes_a_checkpoint_and_says_so(
    tmp_path, monkeypatch, capsys, at_a_terminal, name, code
):
    """The signal comes in the third step, however long the last checkpoint is ago."""
    from scoreag.training import loop

    tiny.write_images(tmp_path / "images", 6)
    monkeypatch.chdir(tmp_path)
    step, count = loop._optimizer_step, [0]

    def interrupted(*given):
        count[0] += 1
        if count[0] == 3:
            signal.raise_signal(getattr(signal, name))
        step(*given)

    monkeypatch.setattr(loop, "_optimizer_step", interrupted)
    assert main([*TRAIN, "--out", "out"]) == code
    err = last_line(capsys.readouterr().err)
    which = "" if name == "SIGINT" else f" ({name})"
    assert err == (
        "scoreag: stopped; what is done is kept: out/checkpoint.pt has seen 16 of 4,000 "
        f"images, and the same command goes on from there{which}"
    )
    assert torch.load("out/checkpoint.pt")["seen"] == 16


@pytest.mark.slow
def test_signals_at_any_time_of_a_start_end_it_with_one_line(tmp_path):
    """From its first import to its work: an interruption that was swallowed would go on to it."""
    tiny.write_images(tmp_path / "images", 6)
    source, words = random.Random(0), [*TRAIN, "--quiet", "--out", "out"]
    for i in range(6):
        number = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP][i % 3]
        process = started(words, tmp_path)
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.05 + source.random() * 3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert last_line(err).startswith("scoreag: stopped")
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
