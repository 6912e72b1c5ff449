"""The small world: every model trained from nothing on Fashion-MNIST, then GAS, GAT and GAP.

Trains the models, two at a time with a thread each, which keeps two cores busier than one training
with two threads, and measures them with the other benchmarks.  What is done already is not done
again: the same command goes on where it was stopped.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
TRAIN, HELD, TEST = (f"fashion-mnist:{w}" for w in ("train[0:55000]", "train[55000:60000]", "test"))
SCORE_MODELS = ("fashion-small", "fashion-small-ddpm", "fashion-small-ncsn")
CLASSIFIERS = ("fashion-judge", "fashion-cnn", "fashion-robust")
GRID = ("start=0.3,0.5,0.8", "precision=10,30,100")


def trainings(out: Path, root: list[str], images: int | None = None) -> Iterator[list[str]]:
    """The longest first, so that both workers end at about the same time."""
    for kind, presets in (("score-model", SCORE_MODELS), ("classifier", CLASSIFIERS)):
        for preset in presets:
            told = ["--preset", preset, "--data", TRAIN, "--out", str(out / preset)]
            told += ["--images", str(images)] if images else []
            yield ["-m", "scoreag", "train", kind, *told, *root]


def tables(out: Path, root: list[str], images: int = 256) -> Iterator[list[str]]:
    """One command a table; settings are those of the cards, which were chosen on ``HELD``."""
    victims = [str(out / name) for name in ("fashion-cnn", "fashion-robust")]
    common = ["--model", str(out / "fashion-small"), "--judge", str(out / "fashion-judge")]
    common += ["--epsilon", "0.1", *root]
    many = str(images)
    both = [*common, "--classifier", *victims]
    gat = ["transformation.py", "--data", TEST, "--images", many, "--name"]
    yield [*gat, "fashion_transformation", *both]
    gas = ["synthesis.py", "--per-class", str(max(1, images // 12)), "--name"]
    yield [*gas, "fashion_synthesis", *both]
    gap = ["purification.py", "--data", TEST, "--images", many, "--grid", *GRID, "--name"]
    yield [*gap, "fashion_purification", *both]
    models = [str(out / name) for name in SCORE_MODELS]
    same = ["families.py", "--models", *models, "--data", TEST, "--held-out", HELD]
    few = [
        "--images",
        str(images // 2),
        "--per-class",
        str(max(1, images // 5)),
        "--grid",
        *GRID,
        "--name",
        "families",
    ]
    yield [*same, *few, *common, "--classifier", victims[0]]


def work(commands: Iterable[list[str]], workers: int) -> None:
    """Run the commands, so many at a time, with a thread each; the first that fails ends it."""
    told = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def run(words: list[str]) -> None:
        started = time.monotonic()
        script = [str(HERE / words[0])] if words[0].endswith(".py") else words[:1]
        subprocess.run([sys.executable, *script, *words[1:]], check=True, env=told)
        print(f"{time.monotonic() - started:7.0f} s  {' '.join(words)}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(run, words) for words in commands]:
            done.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="where Fashion-MNIST is; it is fetched where it is not")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"), help="for the models")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--training", type=int, help="images of each training; for a trial")
    parser.add_argument("--images", type=int, default=256, help="test images of the tables")
    args = parser.parse_args()
    root = ["--root", args.root] if args.root else []
    work(trainings(args.out, root, args.training), args.workers)
    work(tables(args.out, root, args.images), args.workers)


if __name__ == "__main__":
    main()
