"""Five everyday tasks, each by the script that a user of each tool would write.

    python -m venv theirs && theirs/bin/pip install . torch==2.14.1 torchvision==0.29.1 timm \
        torchattacks foolbox pyautoattack diffusers geotorch gdown pandas
    theirs/bin/pip install --no-deps robustbench
    theirs/bin/python benchmarks/everyday_models.py MODELS
    PYTHONPATH=src theirs/bin/python benchmarks/everyday.py MODELS --weights WEIGHTS

The scripts lie in ``benchmarks/everyday``; ``mine.py`` beside them is the user's own network, which
nobody counts.  Each runs in a process and a folder of its own, with one thread, one after the
other; its seconds include the start of Python and the imports.  ``everyday/stand_ins`` gives
RobustBench what it would download.  A tool that has no part of a task is absent, and ABSENT says
why.  Where a tool lacks a part, the user's own code stands in for it and is counted.
"""

import argparse
import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import RESULTS, Row, write
from everyday_counts import count
from PIL import Image
from torch import Tensor

import scoreag
from scoreag.io.images import to_float

SCRIPTS = Path(__file__).parent / "everyday"
TASKS = {
    "pgd": "PGD-40 on my own network, images as PNG",
    "ensemble": "Accuracy under an ensemble like AutoAttack",
    "sampling": "Sixteen images of given classes by a diffusers folder",
    "purification": "A purification defense, blind and adaptive PGD",
    "leaderboard": "A leaderboard's model by name, attacked, its JSON written",
}
TOOLS = {"scoreag": "ScoreAG", "shell": "ScoreAG, command line", "torchattacks": "torchattacks",
         "foolbox": "Foolbox", "diffusers": "diffusers", "robustbench": "RobustBench"}  # fmt: skip
ABSENT = {  # what a tool cannot do, task by task
    "pgd": {"diffusers": "no attacks", "robustbench": "no attack but AutoAttack"},
    "ensemble": {"foolbox": "neither APGD nor Square", "diffusers": "no attacks"},
    "sampling": dict.fromkeys(("torchattacks", "foolbox", "robustbench"), "no diffusion models"),
    "purification": {
        "foolbox": "no purifier: needs the same class as torchattacks",
        "diffusers": "no attacks; its model is in the script of torchattacks",
        "robustbench": "no purifier, no PGD",
    },
    "leaderboard": {"foolbox": "no AutoAttack, no JSON", "diffusers": "no classifiers"},
}


def furnish(folder: Path, models: Path, weights: Path) -> None:
    """A working directory: the user's network, the weights, and the data as torchvision has it."""
    for name, source in (
        ("mine.py", SCRIPTS / "mine.py"), ("weights", weights), ("ddpm", models / "ddpm"),
        ("models", models / "models"), ("fashion.pt", models / "fashion.pt"),
    ):  # fmt: skip
        (folder / name).symlink_to(source.resolve())
    raw = folder / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in Path(os.environ["SCOREAG_DATA"], "fashion-mnist").glob("*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))


def run(script: Path, folder: Path) -> tuple[str, Row]:
    """What a script prints, and its seconds: of the clock and of the processor."""
    paths = [SCRIPTS / "stand_ins", folder, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "SCOREAG_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(str(Path(path).resolve()) for path in paths if str(path)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = ["sh"] if script.suffix == ".sh" else [sys.executable, "-W", "ignore"]
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(
        [*command, str(script)], cwd=folder, env=environment, capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - begin, os.times()
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-3000:]}")
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return done.stdout, {"seconds": round(seconds, 1), "processor_seconds": round(used, 1)}


def pictures(folder: Path) -> Tensor:
    """The PNGs of a script, in the order of their numbers, as floats."""
    place = folder / "out" / "images"
    files = sorted((place if place.is_dir() else folder / "out").glob("*.png"), key=_number)
    opened = [torch.from_numpy(_pixels(file)) for file in files]
    return to_float(torch.stack(opened)).movedim(-1, 1) if opened else torch.empty(0)


def _number(file: Path) -> int:
    return int(file.stem)


def _pixels(file: Path) -> Any:
    import numpy as np

    return np.array(Image.open(file).convert("RGB"))


def robust_rates(printed: str) -> list[Row]:
    """Each rate that was printed: a count of fooled images, or an accuracy."""
    found = re.findall(r"(\d+) of (\d+) fooled", printed)
    if found:
        return [{"correct": int(total) - int(hit), "of": int(total)} for hit, total in found]
    accuracies = re.findall(r"(?<![\w/])[01]\.\d+", printed)
    return [{"accuracy": round(float(text), 4)} for text in accuracies]


def after_pgd(printed: str, folder: Path) -> Row:
    """The same network judges the PNGs of every tool."""
    sys.path.insert(0, str(folder))
    import mine

    before = Path.cwd()
    os.chdir(folder)
    net = mine.network()
    os.chdir(before)
    images, (originals, labels) = pictures(folder), scoreag.load_data("cifar10:test[0:64]")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mine.MEAN, mine.STD))
    with torch.no_grad():
        right = net((images - mean) / std).argmax(1) == labels
    change = 255 * (images - originals).abs().max().item()
    return {
        "printed": robust_rates(printed), "pngs": len(images), "correct": int(right.sum()),
        "of": len(images), "linf_255": round(change, 2),
    }  # fmt: skip


def after_rates(printed: str, folder: Path) -> Row:
    return {"printed": robust_rates(printed)}


def after_sampling(printed: str, folder: Path) -> Row:
    """How many samples a judge takes for the class that was asked for."""
    judge = scoreag.load_classifier("fashion-judge")
    images, labels = pictures(folder)[:, :1], torch.arange(16) % 10
    if (folder / "out" / "rows.jsonl").is_file():
        result = scoreag.load_result(folder / "out")
        images, labels = result.images, result.labels
    with torch.no_grad():
        right = judge(images).argmax(1) == labels
    return {"pngs": len(images), "shown": int(right.sum()), "of": len(right)}


def after_leaderboard(printed: str, folder: Path) -> Row:
    """The entry that was written; of the command line the one that it printed."""
    files = [*folder.glob("model_info/*/*/*.json"), *folder.glob("entry.json")]
    entry = json.loads(files[0].read_text())
    found: Row = {"entry": {k: v for k, v in entry.items() if v not in (None, "")}}
    if files[0].name != "entry.json" and "external" in entry:
        found["robustbench_reads"] = json.loads(run(SCRIPTS / "check_robustbench.py", folder)[0])
    return found


AFTER: dict[str, Callable[[str, Path], Row]] = {
    "pgd": after_pgd, "ensemble": after_rates, "sampling": after_sampling,
    "purification": after_rates, "leaderboard": after_leaderboard,
}  # fmt: skip


def measure(task: str, tool: str, models: Path, weights: Path) -> Row | None:
    """One script: its counts, its seconds and what came of it."""
    script = next(SCRIPTS.glob(f"{task}_{tool}.*"), None)
    if script is None:
        return None
    counts = count(script)
    with TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder, models, weights)
        printed, seconds = run(script, folder)
        outcome = AFTER[task](printed, folder)
    return {
        "task": task, "tool": tool, "lines": counts.lines,
        "lines_with_imports": counts.lines_with_imports, "concepts": len(counts.concepts),
        "names": list(counts.concepts), **seconds, **outcome,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, help="folder of everyday_models.py")
    shared = Path(os.environ.get("SCOREAG_SHARED", "."))
    parser.add_argument("--weights", type=Path, default=shared / "weights")
    parser.add_argument("--task", choices=TASKS, help="replace the rows of this one only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for task in [args.task] if args.task else TASKS:
        for tool in TOOLS:
            row = measure(task, tool, args.models, args.weights)
            if row is not None:
                rows.append(row)
                print(row, flush=True)
    figures: Row = {"tasks": TASKS, "tools": TOOLS, "absent": ABSENT, "rows": rows}
    if not args.task:
        write("everyday", figures)
        return
    file = RESULTS / "everyday.json"
    recorded = json.loads(file.read_text())
    others = [row for row in recorded["rows"] if row["task"] != args.task]
    figures["rows"] = sorted([*others, *rows], key=lambda row: [*TASKS].index(row["task"]))
    file.write_text(json.dumps({"about": recorded["about"], **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
