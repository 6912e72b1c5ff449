"""The small world: every model trained from nothing on Fashion-MNIST, its card, and all tables.

First the score model, in as many processes as there are workers; then commands of one thread each,
as many at a time, which keeps two cores busier than one command with two threads; each begins when
the models that it needs are there.  What is done is not done again: the same command goes on where
it was stopped.  --settings tries settings for the cards' defaults instead, on training images that
no model saw.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cards import described, evaluated
from common import RESULTS, write
from steps import Failed, Step, sat, work

from scoreag.models.model_cards import load_card

TRAIN, HELD, TEST = (f"fashion-mnist:{w}" for w in ("train[0:55000]", "train[55000:60000]", "test"))
SMALL = "fashion-small"
FAMILIES = ("fashion-edm", "fashion-ddpm", "fashion-ncsn")
VICTIMS = ("fashion-cnn", "fashion-robust")
JUDGE = "fashion-judge"
GRID = ("sigma_start=0.4,0.6,0.8", "similarity=5,10,30")
RADIUS = 0.1  # of PGD, pixels in [0, 1]; fashion-robust was trained against as much


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
        told = (
            "--preset",
            preset,
            "--data",
            TRAIN,
            "--out",
            self.at(preset),
            "--quiet",
            "--license",
            "MIT",
        )
        told += ("--train-images", str(self.training)) if self.training else ()
        team = ("-m", "torch.distributed.run", "--nproc-per-node", str(processes))
        words = (*(team if processes > 1 else ()), "-m", "scoreag", "train", kind, *told)
        return Step(preset, (*words, *self.root), self.out / preset / "card.toml")

    def evaluation(self, what: str, name: str, *more: str, after: tuple[str, ...] = ()) -> Step:
        folder = f"{what}-{name}"
        told = (self.at(name), "--out", self.at(folder), "--quiet", *more, *self.root)
        words, made = ("-m", "scoreag", "evaluate", *told), self.out / folder
        return Step(f"{what} of {name}", words, made / "figures.json", (name, JUDGE), after)

    def constructors(self, name: str, script: str, *more: str, data: str = TEST) -> Step:
        told = ("--model", self.at(SMALL), "--classifier", *map(self.at, VICTIMS))
        told += ("--eps", str(RADIUS), *self.root, "--name", f"fashion_{name}", *more)
        told += () if script == "synthesis" else ("--data", data)
        made, models = RESULTS / f"fashion_{name}.json", (SMALL, *VICTIMS, JUDGE)
        return Step(name, (f"{script}.py", *told), made, models)


def whole(world: World) -> Iterable[Step]:
    """All but the score model: the long ones early, so that the workers end at about one time."""
    judge = ("--reference-classifier", world.at(JUDGE), "--sampler", "ancestral")
    judge += ("--batch-size", "50")
    fewer = (
        "--images",
        str(world.draws // 5),
        *judge,
        "--compare-with",
        "0.25",
        "--compare-with",
        "0.5",
    )
    many = ("--images", str(world.draws), *judge, "--update-card")
    for preset in (JUDGE, *VICTIMS):
        yield world.train("classifier", preset)
    yield world.evaluation("curve", SMALL, *fewer)
    yield world.evaluation("card", SMALL, *many, after=(f"curve of {SMALL}",))
    for preset in FAMILIES:
        yield world.train("score-model", preset)
    yield families(world)
    yield from tables(world)
    yield world.evaluation("card", JUDGE, "--update-card")
    yield world.evaluation("card", VICTIMS[0], "--update-card")
    yield world.evaluation(
        "card", VICTIMS[1], "--update-card", "--attack", "pgd", "--eps", str(RADIUS)
    )


def tables(world: World) -> Iterable[Step]:
    judge, many = ("--judge", world.at(JUDGE)), ("--images", str(world.images))
    yield world.constructors("transformation", "transformation", *many, *judge)
    yield world.constructors(
        "synthesis", "synthesis", "--per-class", str(world.images // 10), *judge
    )
    yield world.constructors("purification", "purification", *many, "--grid", *GRID)


def families(world: World) -> Step:
    told = ("--models", *map(world.at, FAMILIES), "--classifier", world.at(VICTIMS[0]), *world.root)
    told += ("--judge", world.at(JUDGE), "--data", TEST, "--held-out", HELD)
    told += ("--eps", str(RADIUS), "--images", str(world.images), "--grid", *GRID)
    words = ("families.py", *told, "--per-class", str(world.images // 5), "--name", "families")
    return Step("families", words, RESULTS / "families.json", (*FAMILIES, VICTIMS[0], JUDGE))


def trials(world: World) -> Iterable[Step]:
    """What the defaults of the cards are chosen by; the models must be there."""
    judge, many = ("--judge", world.at(JUDGE)), ("--images", str(world.images))
    drawn = ("--seed", "2", "--per-class", str(world.images // 10), *judge, "--setting")
    drawn += ("sampler=dpmpp_2m", "sigma_start=80", "attack_scale=1", "max_restarts=6")
    gas = ("--grid", "attack_scale=0.5,1,2", "attack_interval=0:1,0:2")
    yield world.constructors("synthesis_curves", "synthesis", *drawn, "steps=20", *gas)
    given = (*many, *judge, "--setting", "sampler=dpmpp_2m", "steps=8", "attack_scale=10")
    given += ("max_restarts=6",)
    gat = ("--grid", "sigma_start=0.2,0.3,0.4", "similarity=30,60", "attack_scale=5,10")
    yield world.constructors("transformation_curves", "transformation", *given, *gat, data=HELD)
    same = (*many, "--setting", "sampler=ancestral", "steps=6")
    gap = ("--grid", "start=0.2,0.4,0.6,0.8", "precision=5,10,20,50")
    yield world.constructors("purification_curves", "purification", *same, *gap, data=HELD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", help="where Fashion-MNIST is; it is fetched where it is not")
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"), help="for the models")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--training", type=int, help="images of each training; for a trial")
    parser.add_argument("--images", type=int, default=256, help="test images of the tables")
    parser.add_argument("--draws", type=int, default=10_000, help="for the score model's card")
    parser.add_argument("--settings", action="store_true", help="try settings of trained models")
    args = parser.parse_args()
    root = ("--data-dir", args.data_dir) if args.data_dir else ()
    world = World(args.out, root, args.training, args.images, args.draws)
    try:
        (choose if args.settings else make)(world, args.workers)
    except Failed as error:
        sys.exit(f"fashion: {error}; the same command goes on from there")


def choose(world: World, workers: int) -> None:
    work(trials(world), workers, world.out)


def make(world: World, workers: int) -> None:
    """All models, cards and tables, and what they say together."""
    began = time.monotonic()
    try:
        taken = work([world.train("score-model", SMALL, workers)], 1, world.out)
        taken += work(whole(world), workers, world.out)
    finally:
        sittings = sat(world.out, round((time.monotonic() - began) / 60, 1))
    about = {"workers": workers, "sittings": sittings, "steps": taken}
    cards = [load_card(world.out / name) for name in (SMALL, *FAMILIES, JUDGE, *VICTIMS)]
    found = evaluated(*(world.out / f"{what}-{SMALL}" for what in ("card", "curve")))
    write("fashion", {**about, "models": described(cards), **found})


if __name__ == "__main__":
    main()
