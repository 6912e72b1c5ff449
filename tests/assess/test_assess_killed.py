"""A process that is killed again and again, each time with another shard size, loses nothing."""

import signal
import subprocess
import sys
import time

import pytest

import tiny
from scoreag.assess import store
from scoreag.cli import main

pytestmark = pytest.mark.usefixtures("one_thread")


def start(out, size, where):
    words = ["assess", "plan.toml", "--out", out, "--only", "*/none/[pg]*", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "scoreag", *words, "--batch-size", str(size)],
        cwd=where, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE,
    )  # fmt: skip


def kill_when_more_is_written(out, size, where):
    """SIGKILL as soon as there is a row file more; whether the process was still at work."""
    before = len(list((where / out).glob("cells/*/*.jsonl")))
    process = start(out, size, where)
    while process.poll() is None:
        if len(list((where / out).glob("cells/*/*.jsonl"))) > before:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def contents(folder):
    rows = {cell.name: store.read(folder, cell).rows for cell in store.listed(folder)}
    return rows, {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}


def test_a_run_that_is_killed_with_several_shard_sizes_has_the_rows_of_one_that_was_not(
    planned, capsys
):
    killed = [kill_when_more_is_written("killed", size, planned) for size in (4, 1, 64)]
    assert killed == [True] * 3
    process = start("killed", 6, planned)
    _, told = process.communicate()
    assert process.returncode == 0, told
    words = ["assess", "plan.toml", "--out", "whole", "--only", "*/none/[pg]*", "--quiet"]
    assert main(words) == 0
    assert contents(planned / "killed") == contents(planned / "whole")
    assert not list((planned / "killed").rglob(".*.jsonl*"))
