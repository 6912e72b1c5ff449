"""Does a result depend on how often it was killed?  SIGKILL at random moments of one assessment.

Of models and images as small as those of the tests, whose world this is. Each process goes on
where the one before was killed, with another shard size. It is killed between 0 and twice its even
share of what the whole run takes, uniform, after it has begun to work or, as a coin falls, after
it has written rows of its own. Then the run is finished, and each row and picture compared with
those of a run that nothing interrupted.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import write

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import tiny
from assess.killing import contents, left_aside, start
from assess.worlds_of_plans import PLAN, write_world

SIZES = (1, 2, 4, 8, 16, 32, 64)  # images a shard
POLL = 0.002  # seconds


def world(folder: Path, images: int) -> Path:
    """The tests' small world, with more images."""
    write_world(folder)
    tiny.write_images(folder / "images", images)
    (folder / "plan.toml").write_text(PLAN.replace("images = 6", f"images = {images}"))
    return folder


def begun(folder: Path) -> int:
    """Another number as soon as a process works in ``folder``: it lists its cells first."""
    file = folder / "cells.json"
    return file.stat().st_mtime_ns if file.exists() else 0


def written(folder: Path) -> int:
    """Row files that are there."""
    return len(list(folder.glob("cells/*/*.jsonl")))


def await_change(process: subprocess.Popen, folder: Path, of: Callable[[Path], int]) -> None:
    """Wait until ``of(folder)`` is another number, or the process has ended."""
    before = of(folder)
    while process.poll() is None and of(folder) == before:
        time.sleep(POLL)


def finished(out: str, size: int, where: Path) -> float:
    """Let a run end; the seconds of its work."""
    process = start(out, size, where)
    await_change(process, where / out, begun)
    started = time.perf_counter()
    _, told = process.communicate()
    if process.returncode:
        raise RuntimeError(told.decode())
    return time.perf_counter() - started


def kills(count: int, whole: float, where: Path, source: random.Random) -> Iterator[dict[str, Any]]:
    """Start, wait, kill, ``count`` times; what was there after each."""
    size = 0
    for _ in range(count):
        size = source.choice([one for one in SIZES if one != size])
        moment, after = source.uniform(0, 2 * whole / count), source.choice([begun, written])
        process = start("killed", size, where)
        await_change(process, where / "killed", after)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        yield {
            "shard": size,
            "after": {begun: "its work began", written: "it wrote rows"}[after],
            "moment": round(moment, 3),
            "hit": process.returncode == -signal.SIGKILL,
            "rows": sum(map(len, contents(where / "killed")[0].values())),
            "aside": len(left_aside(where / "killed")),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=128, help="of each cell")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the shard sizes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = world(Path(folder), args.images)
        whole = finished("whole", 64, where)
        done = []
        for kill in kills(args.kills, whole, where, random.Random(args.seed)):
            done.append(kill)
            print(kill, flush=True)
        finished("killed", 7, where)
        (rows, pictures), again = contents(where / "whole"), contents(where / "killed")
        figures = {
            "rows": sum(map(len, rows.values())),
            "pictures": len(pictures),
            "cells": len(rows),
            "seconds": round(whole, 1),
            "equal": {"rows": again[0] == rows, "pictures": again[1] == pictures},
            "left_aside": len(left_aside(where / "killed")),
            "kills": done,
        }
    write("killed", figures)


if __name__ == "__main__":
    main()
