"""From images to the card of a score model: begin or go on, train, export."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scoreag.core.algorithm import ALGORITHM
from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.io.images import make_grid, to_uint8, write_png
from scoreag.models.model_cards import Card, load_card, write_card
from scoreag.registry import load_component
from scoreag.training.data_terms import resolve_license
from scoreag.training.denoising_loss import build_denoising_loss
from scoreag.training.ema_snapshots import is_snapshot_due, load_posthoc_average, write_snapshot
from scoreag.training.execution import ExecutionConfig
from scoreag.training.export import describe_source
from scoreag.training.log import TrainingLog, last_loss
from scoreag.training.loop import Callback, PerSampleLoss, TrainState, fit
from scoreag.training.noise_distributions import build_objective
from scoreag.training.score_presets import TASK_SETTINGS, ScoreRecipe
from scoreag.training.setup import Pixels, build_or_resume, check_recipe, resolve_options
from scoreag.training.setup import build_optimizer as build_optimizer
from scoreag.training.tensorboard import tensorboard_writer
from scoreag.training.warm_start import describe_init

LOGGED_FIELDS = (
    "schedule", "warmup_images", "optimizer", "lr", "adam_lr", "embed_layers", "betas",
    "weight_decay", "label_dropout", "ln_sigma", "hflip",
)  # fmt: skip
DEFAULT_EXECUTION = ExecutionConfig()
SAMPLES_PER_CLASS = 4  # samples of each class in a grid


def train_score_model(
    recipe: ScoreRecipe,
    images: Pixels,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    init: Card | None = None,
    provenance: Mapping[str, Any] | None = None,
    sample_every_images: int | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    ema_width: float | None = None,
    license: str = "",
    command: str = "",
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        init: a card to begin with: its weights, which were averages, a fresh optimiser and a new
            warm-up; the images that it has seen are added up.
        about: further entries of the card's recipe, e.g. ``data`` and ``data_sha256``.
        width: of the card's average, made of the snapshots; by default the running one.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: that was given, to be told by the card.
    """
    plan, options = recipe.resolved_schedule, resolve_options(recipe, images, classes, init)
    check_recipe(recipe, labels, classes, folder, execution.dist_context, ema_width)
    file, team, samples = (
        folder / "checkpoint.pt",
        execution.dist_context,
        partial(save_samples, classes=classes),
    )
    state = team.main_process_first(
        partial(build_or_resume, recipe, options, init, file, device, execution)
    )
    journal = TrainingLog(
        folder, plan, sample_every_images or max(plan.batch_size, plan.total_images // 10),
        int(init.training_config.get("images_seen", 0)) if init else 0, samples, progress,
        make_callbacks(recipe, folder, execution, state.images_seen),
    )  # fmt: skip
    if team.is_main:
        journal.open(state)
    watch: Callback = journal.on_step if team.is_main else (lambda state: None)
    again: Callback = partial(journal.write_outputs, keep_samples=True) if team.is_main else watch
    loss = build_loss(recipe, len(classes))
    fit(
        state,
        loss,
        images,
        labels,
        plan,
        file,
        checkpoint_seconds,
        watch,
        dist_context=team,
        on_resume=again,
    )
    how = {
        **(provenance or {}),
        **summarize_training(state, journal, init),
        **({"ema_width": ema_width} if ema_width else {}),
    }
    terms = resolve_license(license, str(how.get("data", "")), init)
    source = describe_source("score-model", command, how)
    exported = partial(
        export,
        state,
        recipe,
        options,
        classes,
        folder,
        how,
        ema_width,
        license=terms,
        source=source,
    )
    return team.main_process_first(exported if team.is_main else partial(load_card, folder))


def make_callbacks(
    recipe: ScoreRecipe, folder: Path, execution: ExecutionConfig, images_seen: int
) -> list[Callable[[TrainState], None]]:
    """What else watches: snapshots of the averages, and TensorBoard."""
    plan, found = recipe.resolved_schedule, list[Callable[[TrainState], None]]()

    def snapshot(state: TrainState) -> None:
        if is_snapshot_due(state.images_seen, plan):
            write_snapshot(state, plan, folder)

    if plan.ema_widths and execution.dist_context.is_main:
        found.append(snapshot)
    if execution.tensorboard and execution.dist_context.is_main:
        found.append(tensorboard_writer(folder, plan, recipe.lr, images_seen))
    return found


def build_loss(recipe: ScoreRecipe, classes: int) -> PerSampleLoss:
    """What a step lowers, as the recipe's family wants it."""
    learnt = build_objective(recipe.family, recipe.sigma_data, recipe.ln_sigma)
    return build_denoising_loss(learnt, classes, recipe.label_dropout, recipe.hflip)


def summarize_training(
    state: TrainState, journal: TrainingLog, init: Card | None
) -> dict[str, Any]:
    """How long the training was, with what the card that it began with had seen."""
    before = dict(init.training_config) if init else {}
    return {
        **describe_init(init),
        "images_seen": journal.images_before + state.images_seen,
        "minutes": round(float(before.get("minutes", 0.0)) + journal.elapsed_seconds / 60, 1),
        "loss": round(last_loss(state), 5),
    }


def save_samples(state: TrainState, file: Path, classes: Sequence[str]) -> None:
    """A row of samples for each class, by Heun in 18 steps; the same noise every time."""
    assert isinstance(state.average, Preconditioned)
    shape: Any = state.average.network.image_shape
    sigmas = karras(18).to(next(state.average.parameters()).device)
    prior = Prior(state.average, load_component("samplers", "heun").sample, sigmas, tuple(shape))
    labels = torch.arange(max(1, len(classes)), device=sigmas.device).repeat_interleave(
        SAMPLES_PER_CLASS
    )
    with torch.no_grad():
        drawn = prior.sample(Noise(0, range(len(labels))), labels if classes else None)
    write_png(file, make_grid(to_uint8(drawn.cpu()), SAMPLES_PER_CLASS))


def export(
    state: TrainState,
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    classes: Sequence[str],
    folder: Path,
    provenance: Mapping[str, Any],
    ema_width: float | None = None,
    license: str = "unspecified",
    source: str = "",
) -> Card:
    """The average weights, or those of another width, in half the space, with their card."""
    assert isinstance(state.average, Preconditioned)
    plain = asdict(recipe)
    shape = tuple(options["image_shape"])
    made = Card(
        name=folder.resolve().name,
        kind="score-model",
        network=recipe.network,
        file="model.safetensors",
        license=license,
        source=source,
        algorithm=ALGORITHM,
        image_shape=(shape[0], shape[1], shape[2]),
        classes=tuple(classes),
        family=recipe.family,
        sigma_data=recipe.sigma_data,
        options=dict(options),
        defaults=TASK_SETTINGS.get(str(provenance.get("preset")), {}),
        training_config={**provenance, **{k: plain[k] for k in LOGGED_FIELDS}},
        folder=folder,
    )
    average = (
        load_posthoc_average(folder, ema_width, state.images_seen)
        if ema_width
        else state.average.state_dict()
    )
    tensors = {name.removeprefix("network."): value for name, value in average.items()}
    return write_card(made, tensors, fp16=True)
