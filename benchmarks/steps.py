"""Commands that need one another, some at a time, none of them twice."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from common import Row

from scoreag.io.filesystem import write_text
from scoreag.models.model_cards import load_card

HERE = Path(__file__).parent


class Failed(RuntimeError):
    """A step could not be done; what it said stands on the terminal."""


@dataclass(frozen=True)
class Step:
    """A command: a script beside this one, or ``-m`` and a module.

    Args:
        made: the file that is there when it is done.
        models: whose cards must be there before; other weights ask for the command again.
        after: further steps that must be done before.
    """

    name: str
    words: tuple[str, ...]
    made: Path
    models: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def work(todo: Iterable[Step], workers: int, out: Path) -> list[Row]:
    """Run the steps, so many at a time, the first that is ready first; how long each took.

    The first that fails ends it: what runs ends, what has not begun is left.
    """
    pending = list(todo)
    order = [step.name for step in pending]
    running: dict[Future[float], Step] = {}
    done: dict[str, float] = {}

    def ready(step: Step) -> bool:
        return all(name in done or name not in order for name in (*step.models, *step.after))

    with ThreadPoolExecutor(workers) as pool:
        while pending or running:
            for step in [step for step in pending if ready(step)][: workers - len(running)]:
                pending.remove(step)
                running[pool.submit(run, step, out)] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done[running.pop(future).name] = future.result()
    return [{"step": name, "seconds": done[name]} for name in order]


def run(step: Step, out: Path) -> float:
    """Do a step, or find that it is done; the seconds that it took.

    The mark of a step in ``out`` says its command and the weights that it was done with.
    """
    mark = out / "done" / f"{step.name}.json"
    state = {"command": shlex.join(step.words), "models": _digests(step, out)}
    if mark.exists() and step.made.exists():
        before: Row = json.loads(mark.read_text())
        if {name: before[name] for name in state} == state:
            return float(before["seconds"])
    told = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    script = [str(HERE / step.words[0])] if step.words[0].endswith(".py") else [step.words[0]]
    began = time.monotonic()
    code = subprocess.run([sys.executable, *script, *step.words[1:]], env=told).returncode
    if code:
        raise Failed(f"{step.name} ended with exit status {code}, for the reason above")
    seconds = round(time.monotonic() - began, 1)
    print(f"{time.strftime('%H:%M:%S')} {step.name}, in {seconds:.0f} s", flush=True)
    mark.parent.mkdir(parents=True, exist_ok=True)
    write_text(mark, json.dumps({**state, "seconds": seconds}))
    return seconds


def _digests(step: Step, out: Path) -> dict[str, str]:
    return {name: load_card(out / name).sha256 for name in step.models}


def sat(out: Path, minutes: float) -> list[float]:
    """The minutes of each sitting so far, this one at the end."""
    file = out / "done" / "sittings.json"
    known: list[float] = json.loads(file.read_text()) if file.exists() else []
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps([*known, minutes]))
    return [*known, minutes]
