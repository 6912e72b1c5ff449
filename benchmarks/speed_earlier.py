"""GAS and GAT by an earlier version of this library, timed beside this one by speed.py.

It runs in a process of its own, with that version's folder ``src`` as PYTHONPATH. The first line
on standard input is the file of the images; then each line names a task, and is answered by the
seconds of the processor and the number of images that fool the classifier.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import scoreag

GAS: dict[str, Any] = {
    "sampler": "dpmpp", "start": 80.0, "steps": 20, "strength": 2.0, "interval": (0.0, 1.0),
    "retries": 6,
}  # fmt: skip
GAT: dict[str, Any] = {
    "sampler": "dpmpp", "start": 0.4, "steps": 8, "precision": 60.0, "strength": 10.0, "retries": 6,
}  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    given = torch.load(sys.stdin.readline().strip())
    prior, victim = scoreag.load_prior(given["model"]), scoreag.load_classifier(given["classifier"])
    quiet = {"micro_batch": given["batch"], "progress": False}
    tasks: dict[str, Callable[[], Any]] = {
        "GAS": lambda: scoreag.synthesize(prior, victim, given["classes"], **GAS, **quiet),
        "GAT": lambda: scoreag.transform(
            prior, victim, given["images"], given["labels"], **GAT, **quiet
        ),
    }
    print(scoreag.__version__, flush=True)
    for line in sys.stdin:
        began = time.process_time()
        result = tasks[line.strip()]()
        print(time.process_time() - began, int(result.success_8bit.sum()), flush=True)


if __name__ == "__main__":
    main()
