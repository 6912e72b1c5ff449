"""From images to the card of a score model: check, begin or resume, train, export."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scoreag.core import ALGORITHM
from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.io.images import make_grid, to_uint8, write_png
from scoreag.models.model_cards import Card, load_card, load_weights, read_weights, write_card
from scoreag.registry import check_options, load_component
from scoreag.training.batches import Pixels
from scoreag.training.checkpoint import TrainState, init_state, resume_or_start
from scoreag.training.denoising_loss import build_denoising_loss, build_objective
from scoreag.training.ema import (
    SNAPSHOT_DIR,
    is_snapshot_due,
    load_posthoc_average,
    width_to_gamma,
    write_snapshot,
)
from scoreag.training.execution import DistContext, ExecutionConfig
from scoreag.training.export import describe_source, resolve_license
from scoreag.training.log import TrainingLog, tensorboard_writer
from scoreag.training.loop import Callback, PerSampleLoss, fit
from scoreag.training.muon import Muon, hidden_matrices
from scoreag.training.presets import check_input_shapes
from scoreag.training.score_presets import TASK_SETTINGS, ScoreRecipe
from scoreag.training.warm_start import check_init, describe_init

LOGGED_FIELDS = (
    "schedule", "warmup_images", "optimizer", "lr", "adam_lr", "embed_layers", "betas",
    "weight_decay", "label_dropout", "ln_sigma", "hflip",
)  # fmt: skip
DEFAULT_EXECUTION = ExecutionConfig()
SAMPLES_PER_CLASS = 4  # in a grid


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
        init: a card to start from: its weights, which were averages, a fresh optimizer and a new
            warm-up; the images that it has seen are added up.
        provenance: further entries of the card's training_config, e.g. ``data``.
        ema_width: of the card's average, made of the snapshots; by default the running one.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: the card's source.
    """
    schedule, context = recipe.resolved_schedule, execution.dist_context
    options = resolve_options(recipe, images, classes, init)
    check_recipe(recipe, labels, classes, folder, context, ema_width)
    file = folder / "checkpoint.pt"
    state = context.main_process_first(
        partial(build_or_resume, recipe, options, init, file, device, execution)
    )
    every = sample_every_images or max(schedule.batch_size, schedule.total_images // 10)
    before = init.training_config if init else {}
    log = TrainingLog(
        folder, schedule, every, int(before.get("images_seen", 0)),
        float(before.get("minutes", 0.0)), partial(save_samples, classes=classes), progress,
        make_callbacks(recipe, folder, execution, state.images_seen),
    )  # fmt: skip
    on_step: Callback = lambda state: None  # noqa: E731
    on_resume = on_step
    if context.is_main:
        log.open(state)
        on_step, on_resume = log.on_step, partial(log.write_outputs, keep_samples=True)
    fit(
        state, build_loss(recipe, len(classes)), images, labels, schedule, file, checkpoint_seconds,
        on_step, dist_context=context, on_resume=on_resume,
    )  # fmt: skip
    provenance = {**(provenance or {}), **describe_init(init), **log.summary(state)}
    if ema_width:
        provenance["ema_width"] = ema_width
    if not context.is_main:
        return context.main_process_first(partial(load_card, folder))
    return context.main_process_first(
        partial(
            export, state, recipe, options, classes, folder, provenance, ema_width,
            license=resolve_license(license, str(provenance.get("data", "")), init),
            source=describe_source("score-model", command, provenance),
        )
    )  # fmt: skip


def check_recipe(
    recipe: ScoreRecipe,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    dist_context: DistContext,
    ema_width: float | None,
) -> None:
    """Refuse, before any work, labels without names, too many pieces, and an average of nothing."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes):
        raise ValueError(
            f"the labels go from {low} to {high}, and there are {len(classes)} names of classes; "
            f"write labels from 0 to {len(classes) - 1}, or give the names that are lacking"
        )
    dist_context.check_batch_size(recipe.schedule.batch_size)
    if ema_width is None:
        return
    width_to_gamma(ema_width)
    if not recipe.schedule.ema_widths and not list((folder / SNAPSHOT_DIR).glob("*.safetensors")):
        raise ValueError(
            f"an average of width {ema_width:g} is made of snapshots, and this preset leaves none; "
            "choose one that has ema_widths, such as fashion-small"
        )


def resolve_options(
    recipe: ScoreRecipe, images: Pixels, classes: Sequence[str], init: Card | None
) -> dict[str, Any]:
    """The network's arguments: of the card to start from, or of the recipe and the data."""
    shape = tuple(images.shape[1:])
    if init is None:
        options = {**recipe.options, "image_shape": list(shape), "classes": len(classes)}
        build, batch = load_component("networks", recipe.network).build, recipe.schedule.batch_size
        check_options(build, options, recipe.network)
        with torch.device("meta"):
            inputs = torch.empty(batch, *shape), torch.empty(batch), torch.zeros(batch).long()
        check_input_shapes(build, options, [inputs], recipe.network)
        return options
    check_init(init, "score-model", "cifar10", shape, len(classes))
    if init.family != recipe.family:
        raise ValueError(
            f"{init.name} is of family {init.family}, and the preset of {recipe.family}; "
            f"give a preset of family {init.family}, or another --init"
        )
    return dict(init.options)


def build_or_resume(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    file: Path,
    device: torch.device | str,
    execution: ExecutionConfig,
) -> TrainState:
    """The state before the first step of this sitting."""
    model = build_network(recipe, options, init, execution.channels_last).to(device)
    state = init_state(model, build_optimizer(model, recipe), len(recipe.schedule.ema_widths))
    state = resume_or_start(state, file)
    if execution.torch_compile:
        model.network.compile()  # the weights keep their names
    return state


def build_network(
    recipe: ScoreRecipe, options: Mapping[str, Any], init: Card | None, channels_last: bool = True
) -> Preconditioned:
    """The denoiser before its first step; new weights are a function of the seed."""
    build = load_component("networks", init.network if init else recipe.network).build
    check_options(build, dict(options), recipe.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.schedule.seed)
        network = build(**options)
    if init is not None:
        load_weights(network, read_weights(init), init.name)
    family = build_objective(recipe.family, recipe.sigma_data).family
    model = Preconditioned(network, family).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(memory_format=layout)  # type: ignore[call-overload]


def build_optimizer(model: Preconditioned, recipe: ScoreRecipe) -> torch.optim.Optimizer:
    """AdamW or Muon, as the recipe says."""
    betas, decay = recipe.betas, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), recipe.lr, betas, weight_decay=decay)
    if recipe.optimizer != "muon":
        raise ValueError(f"optimizer is {recipe.optimizer!r}; write 'adamw' or 'muon'")
    ends = [model.network.get_submodule(name) for name in recipe.embed_layers]
    matrices = hidden_matrices(model.network, ends)
    ids = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    return Muon(matrices, others, recipe.lr, recipe.adam_lr, betas=betas, weight_decay=decay)


def build_loss(recipe: ScoreRecipe, classes: int) -> PerSampleLoss:
    """What a step lowers, as the recipe's family wants it."""
    objective = build_objective(recipe.family, recipe.sigma_data, recipe.ln_sigma)
    return build_denoising_loss(objective, classes, recipe.label_dropout, recipe.hflip)


def make_callbacks(
    recipe: ScoreRecipe, folder: Path, execution: ExecutionConfig, images_seen: int
) -> list[Callback]:
    """What else is called after a step: snapshots of the averages, and TensorBoard."""
    schedule, callbacks = recipe.resolved_schedule, list[Callback]()

    def snapshot(state: TrainState) -> None:
        if is_snapshot_due(state.images_seen, schedule):
            write_snapshot(state, schedule, folder)

    if schedule.ema_widths and execution.dist_context.is_main:
        callbacks.append(snapshot)
    if execution.tensorboard and execution.dist_context.is_main:
        callbacks.append(tensorboard_writer(folder, schedule, recipe.lr, images_seen))
    return callbacks


def save_samples(state: TrainState, file: Path, classes: Sequence[str]) -> None:
    """A row of samples for each class, by Heun in 18 steps; the same noise every time."""
    assert isinstance(state.average, Preconditioned)
    shape: Any = state.average.network.image_shape
    sigmas = karras(18).to(next(state.average.parameters()).device)
    prior = Prior(state.average, load_component("samplers", "heun").sample, sigmas, tuple(shape))
    labels = torch.arange(max(1, len(classes)), device=sigmas.device)
    labels = labels.repeat_interleave(SAMPLES_PER_CLASS)
    with torch.no_grad():
        images = prior.sample(Noise(0, range(len(labels))), labels if classes else None)
    write_png(file, make_grid(to_uint8(images.cpu()), SAMPLES_PER_CLASS))


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
    """The average weights, or those of another width, in half precision, with their card."""
    channels, height, width = options["image_shape"]
    config = asdict(recipe)
    card = Card(
        name=folder.resolve().name,
        kind="score-model",
        network=recipe.network,
        file="model.safetensors",
        license=license,
        source=source,
        algorithm=ALGORITHM,
        image_shape=(channels, height, width),
        classes=tuple(classes),
        family=recipe.family,
        sigma_data=recipe.sigma_data,
        options=dict(options),
        defaults=TASK_SETTINGS.get(str(provenance.get("preset")), {}),
        training_config={**provenance, **{name: config[name] for name in LOGGED_FIELDS}},
        folder=folder,
    )
    average = state.average.state_dict()
    if ema_width:
        average = load_posthoc_average(folder, ema_width, state.images_seen)
    tensors = {name.removeprefix("network."): value for name, value in average.items()}
    return write_card(card, tensors, fp16=True)
