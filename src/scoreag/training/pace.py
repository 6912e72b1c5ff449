"""How long a training step takes on this machine: a few steps, timed."""

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card
from scoreag.training import classifier_training, score_model_training
from scoreag.training.checkpoint import TrainState
from scoreag.training.execution import ExecutionConfig
from scoreag.training.loop import fit
from scoreag.training.outputs import Callback
from scoreag.training.recipes import Recipe, ScoreRecipe

TIMED_STEPS = 4  # after the first, which is slower


def seconds_per_image(
    recipe: Recipe | ScoreRecipe,
    data: Dataset,
    device: torch.device | str = "cpu",
    init: Card | None = None,
    **inputs: Any,
) -> float:
    """The time of a training image: the median step, divided by the batch size.

    Args:
        inputs: of ``classifier_training.train``: ``extra_data``, ``prior``.
    """
    size = recipe.schedule.batch_size
    schedule = replace(recipe.schedule, total_images=size * (1 + TIMED_STEPS))
    times: list[float] = []

    def observe(state: TrainState) -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())

    with TemporaryDirectory(prefix="scoreag-") as folder:
        file = Path(folder) / "checkpoint.pt"
        if isinstance(recipe, Recipe):
            _train_classifier(
                replace(recipe, schedule=schedule), data, file, device, observe, init, **inputs
            )
        else:
            _train_score_model(
                replace(recipe, schedule=schedule), data, file, device, observe, init
            )
    return median(after - before for before, after in pairwise(times)) / size


def _train_classifier(
    recipe: Recipe,
    data: Dataset,
    file: Path,
    device: torch.device | str,
    observe: Callback,
    init: Card | None,
    **inputs: Any,
) -> None:
    assert data.labels is not None
    recipe = classifier_training.complete_recipe(recipe, data.images, data.classes, init)
    classifier_training.train(
        recipe, data.images, data.labels, file, observe, device=device, init=init,
        classes=data.classes, **inputs,
    )  # fmt: skip


def _train_score_model(
    recipe: ScoreRecipe,
    data: Dataset,
    file: Path,
    device: torch.device | str,
    observe: Callback,
    init: Card | None,
) -> None:
    assert data.labels is not None
    options = score_model_training.resolve_options(recipe, data.images, data.classes, init)
    state = score_model_training.build_or_resume(
        recipe, options, init, file, device, ExecutionConfig()
    )
    loss = score_model_training.build_loss(recipe, len(data.classes))
    fit(state, loss, data.images, data.labels, recipe.resolved_schedule, file, callback=observe)
