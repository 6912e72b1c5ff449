"""The small world: every model trained from nothing on Fashion-MNIST, its card, and all tables.

First the score model, in as many processes as there are workers; then commands of one thread each,
as many at a time, which keeps two cores busier than one command with two threads; each waits for
those whose models it needs.  What is done already is not done again: the
same command goes on where it was stopped.  --settings tries settings for the cards' defaults
instead, on training images that no model saw.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from common import write

from scoreag.cards import card

HERE = Path(__file__).parent
TRAIN, HELD, TEST = (f"fashion-mnist:{w}" for w in ("train[0:55000]", "train[55000:60000]", "test"))
SMALL = "fashion-small"
FAMILIES = ("fashion-edm", "fashion-ddpm", "fashion-ncsn")
VICTIMS = ("fashion-cnn", "fashion-robust")
JUDGE = "fashion-judge"
GRID = ("start=0.4,0.6,0.8", "precision=5,10,30")
RADIUS = "0.1"  # of PGD, pixels in [0, 1]; fashion-robust was trained against as much


@dataclass(frozen=True)
class Step:
    """A command: a script beside this one, or ``-m`` and a module; and the steps it waits for."""

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Where the models are, and how large everything is."""

    out: Path
    root: tuple[str, ...]
    training: int | None = None
    images: int = 256
    draws: int = 10_000

    def at(self, name: str) -> str:
        return str(self.out / name)

    def train(self, kind: str, preset: str, processes: int = 1) -> Step:
        told = ("--preset", preset, "--data", TRAIN, "--out", self.at(preset), "--quiet")
        told += ("--images", str(self.training)) if self.training else ()
        team = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes))
        words = (*(team if processes > 1 else ()), "-m", "scoreag", "train", kind, *told)
        return Step(preset, (*words, *self.root))

    def figures(self, what: str, name: str, *more: str, after: tuple[str, ...] = ()) -> Step:
        """``what`` of a model, computed by evaluate-model."""
        told = (self.at(name), "--out", self.at(f"{what}-{name}"), "--quiet", *more)
        words = ("-m", "scoreag", "evaluate-model", *told, *self.root)
        return Step(f"{what} of {name}", words, (name, JUDGE, *after))

    def table(self, name: str, script: str, *more: str, data: str = TEST) -> Step:
        told = ("--model", self.at(SMALL), "--classifier", *map(self.at, VICTIMS))
        told += ("--epsilon", RADIUS, *self.root, "--name", f"fashion_{name}", *more)
        told += () if script == "synthesis" else ("--data", data)
        return Step(name, (f"{script}.py", *told), (SMALL, *VICTIMS, JUDGE))


def steps(world: World) -> Iterable[Step]:
    """All but the score model: the long ones early, so that the workers end at about one time."""
    judge = ("--judge", world.at(JUDGE))
    for preset in (JUDGE, *VICTIMS):
        yield world.train("classifier", preset)
    for preset in FAMILIES:
        yield world.train("score-model", preset)
    fewer = ("--images", str(world.draws // 5), *judge, "--beside", "0.25", "--beside", "0.5")
    yield world.figures("curve", SMALL, *fewer)
    many = ("--images", str(world.draws), *judge, "--write")
    yield world.figures("card", SMALL, *many, after=(f"curve of {SMALL}",))
    yield world.figures("card", JUDGE, "--write")
    yield world.figures("card", VICTIMS[0], "--write")
    yield world.figures("card", VICTIMS[1], "--write", "--under", "pgd40_25.5")
    many = ("--images", str(world.images))
    yield world.table("transformation", "transformation", *many, *judge)
    yield world.table("synthesis", "synthesis", "--per-class", str(world.images // 10), *judge)
    yield world.table("purification", "purification", *many, "--grid", *GRID)
    yield compared(world, judge)


def compared(world: World, judge: tuple[str, ...]) -> Step:
    models = tuple(map(world.at, FAMILIES))
    told = ("--models", *models, "--classifier", world.at(VICTIMS[0]), *judge, *world.root)
    told += ("--data", TEST, "--held-out", HELD, "--epsilon", RADIUS, "--grid", *GRID)
    told += ("--images", str(world.images), "--per-class", str(world.images // 5))
    needed = (*FAMILIES, VICTIMS[0], JUDGE)
    return Step("families", ("families.py", *told, "--name", "families"), needed)


def settings(world: World) -> Iterable[Step]:
    """What the defaults of the cards are chosen by."""
    judge, many = ("--judge", world.at(JUDGE)), ("--images", str(world.images))
    drawn = ("--seed", "2", "--per-class", str(world.images // 10), *judge, "--setting")
    drawn += ("sampler=dpmpp", "start=80", "retries=6")
    gas = ("--grid", "strength=0.5,1,2", "interval=0:1,0:2")
    yield world.table("synthesis_curves", "synthesis", *drawn, "steps=20", *gas)
    given = (*many, *judge, "--setting", "sampler=dpmpp", "steps=8", "retries=6")
    gat = ("--grid", "start=0.2,0.3,0.4", "precision=30,60", "strength=5,10")
    yield world.table("transformation_curves", "transformation", *given, *gat, data=HELD)
    same = (*many, "--setting", "sampler=ancestral", "steps=6")
    gap = ("--grid", "start=0.2,0.4,0.6,0.8", "precision=5,10,20,50")
    yield world.table("purification_curves", "purification", *same, *gap, data=HELD)


def work(todo: Iterable[Step], workers: int, out: Path) -> list[dict[str, object]]:
    """Run the steps, so many at a time, in their order; the first that fails ends it.

    Trainings and cards know themselves what they have done; of a table there is a mark in ``out``,
    which counts as long as no model that it needs is younger.
    """
    told = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    running: dict[str, Future[dict[str, object]]] = {}
    began = time.monotonic()

    def run(step: Step) -> dict[str, object]:
        for name in step.after:  # they were given to the workers before: nobody waits for ever
            if name in running:
                running[name].result()
        mark, first = out / "done" / step.name, step.words[0]
        if first.endswith(".py") and _younger(mark, [out / name for name in step.after]):
            return {"step": step.name, "seconds": float(mark.read_text())}
        started = time.monotonic()
        script = [str(HERE / first)] if first.endswith(".py") else [first]
        subprocess.run([sys.executable, *script, *step.words[1:]], check=True, env=told)
        taken = time.monotonic() - started
        print(f"{time.monotonic() - began:6.0f} s: {step.name}, in {taken:.0f} s", flush=True)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{taken:.1f}")
        return {"step": step.name, "seconds": round(taken, 1)}

    with ThreadPoolExecutor(workers) as pool:
        for step in todo:
            running[step.name] = pool.submit(run, step)
        done, _ = wait(running.values(), return_when=FIRST_EXCEPTION)
        pool.shutdown(cancel_futures=True)  # what has begun ends, what has not is left
        for future in done:
            future.result()
        return [future.result() for future in running.values()]


def _younger(mark: Path, models: list[Path]) -> bool:
    if not mark.exists():
        return False
    weights = [file for folder in models for file in folder.glob("model.safetensors")]
    return all(file.stat().st_mtime < mark.stat().st_mtime for file in weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="where Fashion-MNIST is; it is fetched where it is not")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"), help="for the models")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--training", type=int, help="images of each training; for a trial")
    parser.add_argument("--images", type=int, default=256, help="test images of the tables")
    parser.add_argument("--draws", type=int, default=10_000, help="for the score model's card")
    parser.add_argument("--settings", action="store_true", help="try settings instead")
    args = parser.parse_args()
    root = ("--root", args.root) if args.root else ()
    world = World(args.out, root, args.training, args.images, args.draws)
    began, fresh = time.monotonic(), not args.out.exists()
    if args.settings:
        work(settings(world), args.workers, args.out)
    else:
        taken = work([world.train("score-model", SMALL, args.workers)], 1, args.out)
        taken += work(steps(world), args.workers, args.out)
        minutes = round((time.monotonic() - began) / 60, 1)
        about = {"workers": args.workers, "minutes": minutes, "from_nothing": fresh, "steps": taken}
        write("fashion", {**about, "models": models(world), **evaluated(args.out)})


def evaluated(out: Path) -> dict[str, object]:
    """What evaluate-model found of the score model: the whole training, and its curve."""
    whole, curve = (
        json.loads((out / f"{what}-{SMALL}" / "figures.json").read_text())
        for what in ("card", "curve")
    )
    kept = ("settings", "figures", "neighbours", "speed")
    shown = ("settings", "figures", "curve")
    return {
        "card": {name: whole[name] for name in kept},
        "curve": {name: curve[name] for name in shown},
    }


def models(world: World) -> list[dict[str, object]]:
    """What each card says of its training and of its figures."""
    cards = [card(world.out / name) for name in (SMALL, *FAMILIES, JUDGE, *VICTIMS)]
    shown = ("images_seen", "minutes", "loss")
    return [
        {
            "name": known.name,
            "kind": known.kind,
            "sha256": known.sha256,
            **{name: known.recipe[name] for name in shown},
            "figures": known.figures,
        }
        for known in cards
    ]


if __name__ == "__main__":
    main()
