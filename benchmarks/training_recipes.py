"""Which recipe learns most in the same time?  Short trainings of a score model, side by side.

Each --variant is a change of the preset, NAME=VALUE ...; one without words is the preset itself.
Told are the loss on held-out training images, at noise that is the same for all, and the seconds.
With --seconds each is as long as takes about that time, by the pace of its first steps.
"""

import argparse
import ast
import tempfile
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from common import Row, rate, write

import scoreag
from scoreag.core.rng import Noise, Stream
from scoreag.core.types import Classifier
from scoreag.data.loading import Dataset, load_dataset
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.prior_guidance import GuidedModel
from scoreag.diffusion.samplers import ancestral
from scoreag.training.checkpoint import TrainState
from scoreag.training.execution import ExecutionConfig
from scoreag.training.loop import fit
from scoreag.training.presets import get_preset
from scoreag.training.recipes import SCORE_PRESETS as PRESETS
from scoreag.training.recipes import ScoreRecipe
from scoreag.training.schedule import TrainingSchedule
from scoreag.training.score_model_training import build_loss, build_or_resume, resolve_options

PLANNED = {setting.name for setting in fields(TrainingSchedule)}


def changed(recipe: ScoreRecipe, words: list[str]) -> tuple[ScoreRecipe, dict[str, Any]]:
    """The recipe with NAME=VALUE of itself, of its plan, or of its network's options."""
    table = {name: typed(word) for name, _, word in (pair.partition("=") for pair in words)}
    plan = {name: v for name, v in table.items() if name in PLANNED}
    own = {name: v for name, v in table.items() if hasattr(recipe, name)}
    options = {name: v for name, v in table.items() if name not in plan and name not in own}
    new = replace(recipe, **own, options={**recipe.options, **options})
    return replace(new, schedule=replace(recipe.schedule, **plan)), table


def typed(word: str) -> Any:
    """A number or a list, as Python writes them, or the word itself."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


@torch.no_grad()
def held_out(state: TrainState, recipe: ScoreRecipe, data: Dataset, batch: int = 250) -> float:
    """The loss of the weights as they are, on all of ``data``."""
    loss, total = build_loss(replace(recipe, head_weight=0.0), len(data.classes)), 0.0
    assert data.labels is not None
    for first in range(0, len(data), batch):
        rows = slice(first, first + batch)
        images, source = data.images[rows].float() / 255, Stream(1, "held out", first)
        total += loss(state.network, images, data.labels[rows], source).item() * len(images)
    return total / len(data)


def trained(recipe: ScoreRecipe, data: Dataset) -> tuple[TrainState, float]:
    """The state after the whole recipe, and the seconds that it took."""
    options = resolve_options(recipe, data.images, data.classes, None)
    assert data.labels is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pt"
        state = build_or_resume(recipe, options, None, file, "cpu", ExecutionConfig())
        began = time.perf_counter()
        loss = build_loss(recipe, len(data.classes))
        fit(
            state,
            loss,
            data.images,
            data.labels,
            recipe.resolved_schedule,
            file,
            checkpoint_seconds=1e9,
        )
        return state, time.perf_counter() - began


def lasting(recipe: ScoreRecipe, data: Dataset, seconds: float, steps: int = 12) -> ScoreRecipe:
    """The recipe with as many images as it sees in about so many seconds."""
    for _ in range(2):  # the first time, kernels are chosen
        _, taken = trained(_for(recipe, steps * recipe.schedule.batch_size), data)
    batches = round(seconds / taken * steps)
    return _for(recipe, batches * recipe.schedule.batch_size)


def _for(recipe: ScoreRecipe, images: int) -> ScoreRecipe:
    return replace(recipe, schedule=replace(recipe.schedule, total_images=images))


def row(
    recipe: ScoreRecipe,
    table: Mapping[str, Any],
    data: Dataset,
    held: Dataset,
    scale: float | None = None,
    judge: Classifier | None = None,
) -> Row:
    state, seconds = trained(recipe, data)
    measured = {
        "changes": dict(table),
        "images": state.images_seen,
        "weights": sum(p.numel() for p in state.network.parameters()),
        "seconds": seconds,
        "loss": held_out(state, recipe, held),
    }
    return measured | (
        {"guided": guided(state, held, scale, judge)} if judge and scale is not None else {}
    )


def guided(
    state: TrainState, data: Dataset, scale: float, judge: Classifier, count: int = 200
) -> Row:
    """Of guided samples, ancestral in 20 steps, how many show their class to the judge."""
    shape = (data.images.shape[1], data.images.shape[2], data.images.shape[3])
    model = GuidedModel(state.network.eval(), scale)
    return shown(Prior(model, ancestral.sample, karras(20), shape, data.classes), judge, count)


@torch.no_grad()
def shown(prior: Prior, judge: Classifier, count: int) -> Row:
    """Of samples, classes in turn, how many show their class to the judge."""
    labels = torch.arange(count) % len(prior.classes)
    groups = [[*range(first, min(first + 50, count))] for first in range(0, count, 50)]
    images = torch.cat([prior.sample(Noise(7, ids), labels[ids]) for ids in groups])
    return rate(judge(images).argmax(1) == labels, "guided samples")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="cifar10-small")
    parser.add_argument("--data", default="cifar10:train[0:45000]")
    parser.add_argument("--held-out", default="cifar10:train[45000:47000]")
    parser.add_argument("--seconds", type=float, help="how long each variant shall train, about")
    parser.add_argument("--variant", nargs="*", action="append", default=[])
    parser.add_argument("--guided", type=float, help="scale of guided samples, which are judged")
    parser.add_argument("--name", default="training_recipes")
    args = parser.parse_args()
    recipe = get_preset(args.preset, PRESETS)
    data, held = (load_dataset(words, args.data_dir) for words in (args.data, args.held_out))
    judge = scoreag.load_classifier("cifar10-judge") if args.guided is not None else None
    rows: list[Row] = []
    for words in args.variant:
        variant, table = changed(recipe, words)
        if args.seconds:
            variant = lasting(variant, data, args.seconds)
        rows.append(row(variant, table, data, held, args.guided, judge))
        print(rows[-1], flush=True)
        figures = {"preset": args.preset, "data": args.data, "held_out": args.held_out}
        figures |= {"scale": args.guided} if judge else {}
        write(args.name, {**figures, "rows": rows})


if __name__ == "__main__":
    main()
