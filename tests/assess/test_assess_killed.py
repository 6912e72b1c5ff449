"""A process that is killed again and again, each time with another shard size, loses nothing."""

import signal
import time

import pytest

from assess.killing import contents, left_aside, start
from scoreag.cli.app import main

pytestmark = pytest.mark.usefixtures("one_thread")

SOME = ("--only", "*/none/[pg]*")


def kill_when_more_is_written(out, size, where):
    """SIGKILL as soon as there is a row file more; whether the process was still at work."""
    before = len(list((where / out).glob("cells/*/*.jsonl")))
    process = start(out, size, where, *SOME)
    while process.poll() is None:
        if len(list((where / out).glob("cells/*/*.jsonl"))) > before:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_a_run_that_is_killed_with_several_shard_sizes_has_the_rows_of_one_that_was_not(
    planned, capsys
):
    killed = [kill_when_more_is_written("killed", size, planned) for size in (4, 1, 64)]
    assert killed == [True] * 3
    process = start("killed", 6, planned, *SOME)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert main(["assess", "plan.toml", "--out", "whole", "--quiet", *SOME]) == 0
    assert contents(planned / "killed") == contents(planned / "whole")
    assert not left_aside(planned / "killed")
