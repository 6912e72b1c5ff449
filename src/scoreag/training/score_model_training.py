"""From images to the card of a score model: check, start or resume, train, export."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.networks.unet import head_sides
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.diffusion.prior import Prior
from scoreag.io.images import make_grid, to_uint8, write_png
from scoreag.models.model_cards import Card, load_card
from scoreag.registry import check_options, load_component
from scoreag.training import checkpoint, initialization, losses, optimization, outputs
from scoreag.training.checkpoint import TrainState
from scoreag.training.execution import DistContext, ExecutionConfig
from scoreag.training.loop import fit
from scoreag.training.losses import PerSampleLoss
from scoreag.training.outputs import Callback, TrainingLog
from scoreag.training.presets import check_input_shapes
from scoreag.training.recipes import TASK_SETTINGS, ScoreRecipe
from scoreag.training.schedule import Pixels

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
    max_shard_size: int | None = None,
    has_null_labels: bool = False,
) -> Card:
    """Train by ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        init: a card to start from: with its (averaged) weights, a new optimizer and a new warm-up;
            the images that it has seen are added.
        provenance: further entries of the card's training_config, e.g. ``data``.
        ema_width: of the exported average, computed from the snapshots; by default the running one.
        license: of the weights; "" is unspecified, with the known terms of the data.
        command: that started the training; the card's source.
        max_shard_size: bytes of a weight file; more are written in several files.
        has_null_labels: whether the label ``len(classes)``, of no class, is among the labels.
    """
    schedule, context = recipe.resolved_schedule, execution.dist_context
    options = resolve_options(recipe, images, classes, init)
    check_recipe(recipe, labels, classes, folder, context, ema_width, has_null_labels)
    file = folder / "checkpoint.pt"
    state = context.main_process_first(
        partial(build_or_resume, recipe, options, init, file, device, execution, classes)
    )
    every = sample_every_images or max(schedule.batch_size, schedule.total_images // 10)
    log = TrainingLog(
        folder, schedule, every, init, partial(save_samples, classes=classes), progress,
        make_callbacks(recipe, folder, execution, state.images_seen),
    )  # fmt: skip
    fit(
        state, build_loss(recipe, len(classes)), images, labels, schedule, file, checkpoint_seconds,
        log=log if context.is_main else None, dist_context=context,
    )  # fmt: skip
    if not context.is_main:
        return context.main_process_first(partial(load_card, folder))
    provenance = {**(provenance or {}), **outputs.describe_inputs(init), **log.summary(state)}
    if ema_width:
        provenance["ema_width"] = ema_width

    def write() -> Card:
        average = state.average.state_dict()
        if ema_width:
            average = optimization.load_posthoc_average(folder, ema_width, state.images_seen)
        weights = {name.removeprefix("network."): value for name, value in average.items()}
        return outputs.export(
            "score-model", recipe, weights, folder, classes, tuple(options["image_shape"]),
            provenance, init, license=license, command=command, max_shard_size=max_shard_size,
            family=recipe.family,
            sigma_data=recipe.sigma_data, options=options,
            defaults=TASK_SETTINGS.get(str(provenance.get("preset")), {}),
        )  # fmt: skip

    return context.main_process_first(write)


def check_recipe(
    recipe: ScoreRecipe,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    dist_context: DistContext,
    ema_width: float | None,
    has_null_labels: bool = False,
) -> None:
    """Refuse labels without names, batches with too many pieces, and averages without snapshots."""
    if recipe.options.get("head_at") and not recipe.head_weight > 0:
        raise ValueError(
            f"head_weight is {recipe.head_weight:g}, and the network has a head, which would learn "
            "nothing; write a weight above 0, e.g. 0.25, or leave head_at out of the options"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(classes) + has_null_labels:
        raise ValueError(
            f"the labels go from {low} to {high}, and there are {len(classes)} names of classes; "
            f"write labels from 0 to {len(classes) - 1}, or give the names that are lacking"
        )
    dist_context.check_batch_size(recipe.schedule.batch_size)
    if ema_width is None:
        return
    optimization.width_to_gamma(ema_width)
    if not recipe.schedule.ema_widths and not optimization.list_snapshots(folder):
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
        if options.get("head_at") and (sides := head_sides(**options)):
            options["head_at"] = min(sides, key=lambda side: abs(side - options["head_at"]))
        build, batch = load_component("networks", recipe.network).build, recipe.schedule.batch_size
        check_options(build, options, recipe.network)
        with torch.device("meta"):
            inputs = torch.empty(batch, *shape), torch.empty(batch), torch.zeros(batch).long()
        check_input_shapes(build, options, [inputs], recipe.network)
        return options
    initialization.check_init(init, "score-model", "cifar10", shape)
    if init.family != recipe.family:
        raise ValueError(
            f"{init.name} is of family {init.family}, and the preset of {recipe.family}; "
            f"give a preset of family {init.family}, or another --init"
        )
    options = initialization.init_options(init, shape, len(classes))
    head_at = recipe.options.get("head_at", 0)
    if init.network != recipe.network or head_at not in head_sides(**options):
        return options
    return {"head_at": head_at, **options}  # a head may be new


def build_or_resume(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    file: Path,
    device: torch.device | str,
    execution: ExecutionConfig,
    classes: Sequence[str] = (),
) -> TrainState:
    """The state of the checkpoint ``file`` if there is one, else that before the first step."""
    model = build_network(recipe, options, init, execution.channels_last, classes).to(device)
    state = checkpoint.init_state(
        model, build_optimizer(model, recipe), len(recipe.schedule.ema_widths)
    )
    state = checkpoint.load_checkpoint(state, file)
    if execution.torch_compile:
        model.network.compile()  # in place, so that the weights keep their names
    return state


def build_network(
    recipe: ScoreRecipe,
    options: Mapping[str, Any],
    init: Card | None,
    channels_last: bool = True,
    classes: Sequence[str] = (),
) -> Preconditioned:
    """The denoiser before its first step, with the weights of ``init`` or of the seed."""
    name = init.network if init else recipe.network
    check_options(load_component("networks", name).build, dict(options), recipe.network)
    network = initialization.build_seeded(name, options, recipe.schedule.seed, init, classes)
    family = losses.build_objective(recipe.family, recipe.sigma_data).family
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
    names = [*recipe.embed_layers, *(["head"] if model.has_head else [])]
    ends = [model.network.get_submodule(name) for name in names]
    matrices = optimization.hidden_matrices(model.network, ends)
    ids = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in ids]
    return optimization.Muon(
        matrices, others, recipe.lr, recipe.adam_lr, betas=betas, weight_decay=decay
    )


def build_loss(recipe: ScoreRecipe, classes: int) -> PerSampleLoss:
    """The denoising loss of the recipe's family."""
    objective = losses.build_objective(recipe.family, recipe.sigma_data, recipe.ln_sigma)
    return losses.build_denoising_loss(
        objective, classes, recipe.label_dropout, recipe.hflip, recipe.head_weight
    )


def make_callbacks(
    recipe: ScoreRecipe, folder: Path, execution: ExecutionConfig, images_seen: int
) -> list[Callback]:
    """Those that write snapshots of the averages, and curves for TensorBoard."""
    schedule, callbacks = recipe.resolved_schedule, list[Callback]()

    def snapshot(state: TrainState) -> None:
        if optimization.is_snapshot_due(state.images_seen, schedule):
            optimization.write_snapshot(state, schedule, folder)

    if schedule.ema_widths and execution.dist_context.is_main:
        callbacks.append(snapshot)
    if execution.tensorboard and execution.dist_context.is_main:
        callbacks.append(outputs.tensorboard_writer(folder, schedule, recipe.lr, images_seen))
    return callbacks


def save_samples(state: TrainState, file: Path, classes: Sequence[str]) -> None:
    """Write a row of samples for each class, by Heun in 18 steps, from the same noise each time."""
    assert isinstance(state.average, Preconditioned)
    shape: Any = state.average.network.image_shape
    sigmas = karras(18).to(next(state.average.parameters()).device)
    prior = Prior(state.average, load_component("samplers", "heun").sample, sigmas, tuple(shape))
    labels = torch.arange(max(1, len(classes)), device=sigmas.device)
    labels = labels.repeat_interleave(SAMPLES_PER_CLASS)
    with torch.no_grad():
        images = prior.sample(Noise(0, range(len(labels))), labels if classes else None)
    write_png(file, make_grid(to_uint8(images.cpu()), SAMPLES_PER_CLASS))
