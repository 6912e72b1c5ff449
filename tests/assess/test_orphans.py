"""Workers end with the process that started them, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny

PARENT = """
import os, sys, time
from multiprocessing import get_context
from scoreag.assess.executors import run_until_orphaned
import pickle

if __name__ == "__main__":
    context = get_context("spawn")
    packed = pickle.dumps((time.sleep, (600,)))
    new = {"target": run_until_orphaned, "args": (packed,), "daemon": True}
    children = [context.Process(**new) for _ in range(2)]
    for child in children:
        child.start()
    print(*(child.pid for child in children), flush=True)
    time.sleep(600)
"""


def alive(pid):
    """Whether a process is there and no zombie, whoever is its parent by now."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


def killed(parent, pids):
    """SIGKILL to the parent ends its two children, too; the test leaves none behind."""
    parent.kill()
    parent.wait()
    if parent.stdout:
        parent.stdout.close()
    ended = gone(pids)
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)
    assert len(pids) == 2 and ended


def kernel_is_silent(text):
    """The same program on a system whose kernel tells nothing: the watch alone is left."""
    return text.replace("import pickle", "import pickle, scoreag.assess.executors\n"
                        "sys.platform = 'other'")  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("change", [str, kernel_is_silent], ids=["kernel", "watch"])
@pytest.mark.parametrize("wait", [0.0, 0.5], ids=["starting", "working"])
def test_processes_end_with_a_killed_parent(tmp_path, change, wait):
    (tmp_path / "parent.py").write_text(change(PARENT))
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], env=tiny.ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pids = [int(word) for word in parent.stdout.readline().split()]
    time.sleep(wait)
    killed(parent, pids)


def children(pid):
    """The worker processes; not multiprocessing's tracker, which ends by itself."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text()]


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/task") or sys.platform != "linux", reason="looks into /proc"
)
def test_the_workers_of_a_killed_assessment_end_in_five_seconds(planned, tmp_path):
    text = (
        (planned / "plan.toml")
        .read_text()
        .replace("steps = 2\nclassifiers", "steps = 20000\nclassifiers")
    )
    (planned / "long.toml").write_text(text)
    words = ["assess", "long.toml", "--out", str(tmp_path / "out"), "--workers", "2", "--quiet"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "scoreag", *words], cwd=planned, env=tiny.ENVIRONMENT,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pids = []
    while parent.poll() is None and len(pids) < 2:
        time.sleep(0.05)
        pids = children(parent.pid)
    time.sleep(1)  # they import torch
    killed(parent, pids)
