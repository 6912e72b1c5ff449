"""From images to the card of a classifier: fit the recipe to the data, train, and export."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from scoreag.classifiers.networks.airbench_cnn import WhitenedCNN, whiten
from scoreag.core.rng import Stream
from scoreag.core.types import Images, Targets
from scoreag.data.loading import Dataset
from scoreag.diffusion.one_shot import denoise_once
from scoreag.diffusion.prior import Prior
from scoreag.models.model_cards import Card
from scoreag.registry import check_options, load_component
from scoreag.training import checkpoint, initialization, losses, schedule
from scoreag.training.checkpoint import TrainState
from scoreag.training.denoised_copies import denoised_loss
from scoreag.training.loop import BatchSampler, fit
from scoreag.training.outputs import Callback, TrainingLog, describe_inputs, export
from scoreag.training.presets import check_input_shapes, data_options, pixel_stats
from scoreag.training.recipes import SINGLE_STEP_METHODS, Recipe
from scoreag.training.schedule import Batch, Crops, Pixels, TrainingSchedule


def train_classifier(
    recipe: Recipe,
    images: Pixels,
    labels: Targets,
    classes: Sequence[str],
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    extra_data: Dataset | None = None,
    init: Card | None = None,
    license: str = "",
    command: str = "",
    prior: Prior | None = None,
) -> Card:
    """Train by ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        extra_data: labeled images, such as a score model's samples, that make up
            ``recipe.extra_fraction`` of each batch.
        init: a card to start from, with its network and weights.
        license: of the weights; "" is unspecified, with the known terms of the data.
        command: that started the training; the card's source.
        prior: the score model that ``recipe.denoised`` names.
    """
    recipe = complete_recipe(recipe, images, classes, init)
    check_prior(recipe, prior, images)
    schedule.check_extra(extra_data, images, len(classes), recipe.schedule, recipe.extra_fraction)
    every = max(recipe.schedule.batch_size, recipe.schedule.total_images // 20)
    log = TrainingLog(folder, recipe.schedule, every, progress=progress)
    state = train(
        recipe, images, labels, folder / "checkpoint.pt", checkpoint_seconds=checkpoint_seconds,
        device=device, extra_data=extra_data, init=init, log=log, classes=classes, prior=prior,
    )  # fmt: skip
    denoiser = {"denoised_sha256": prior.metadata.get("sha256", "")} if prior else {}
    provenance = {
        **(provenance or {}), **describe_inputs(init, extra_data), **denoiser, **log.summary(state),
    }  # fmt: skip
    channels, height, width = images.shape[1:]
    return export(
        "classifier", recipe, state.average.state_dict(), folder, classes,
        (channels, height, width), provenance, init, extra_data, license, command,
        mean=tuple(recipe.mean), std=tuple(recipe.std), options=dict(recipe.options),
    )  # fmt: skip


def complete_recipe(
    recipe: Recipe, images: Pixels, classes: Sequence[str], init: Card | None = None
) -> Recipe:
    """The recipe with the values of the data: shape, number of classes, mean and deviation.

    The network and the normalization of ``init``, a card to start from, replace the recipe's.

    Raises:
        ValueError: the recipe is for images of other channels or of another size.
    """
    channels, height, width = shape = tuple(images.shape[1:])
    if init is not None:
        initialization.check_init(init, "classifier", "cifar10-resnet20", shape)
        repeat = channels if len(init.mean) == 1 else 1
        recipe = replace(
            recipe, network=init.network,
            options=initialization.init_options(init, shape, len(classes)),
            mean=tuple(init.mean) * repeat, std=tuple(init.std) * repeat,
        )  # fmt: skip
    build = load_component("networks", recipe.network).build
    known = data_options(build, shape, len(classes))
    options = {**recipe.options, **known}
    check_options(build, options, f"the network {recipe.network}")
    mean, std = (recipe.mean, recipe.std) if recipe.mean else channel_stats(images)
    expected = len(mean) if "image_shape" in known else 3  # other networks take RGB
    if not len(mean) == len(std) == expected == channels:
        raise ValueError(
            f"the recipe is for images of {expected} channels, and these have {channels}; "
            "take a preset for such images"
        )
    _check_crops(recipe, height, width)
    sizes = [*((side, side) for _, side in recipe.crop_schedule), (height, width)]
    batch_shapes = [(recipe.schedule.batch_size, channels, *size) for size in sizes]
    inputs = [(torch.empty(*batch_shape, device="meta"),) for batch_shape in batch_shapes]
    check_input_shapes(build, options, inputs, recipe.network)
    return replace(recipe, options=options, mean=mean, std=std)


def _check_crops(recipe: Recipe, height: int, width: int) -> None:
    """Refuse crops and shifts that are too large for the images."""
    side, shift = max((side for _, side in recipe.crop_schedule), default=0), recipe.random_shift
    if side > min(height, width) + 2 * shift:
        raise ValueError(
            f"the recipe crops to a side of {side}, and the images are {height} x {width}; "
            "take a preset for such images"
        )
    if shift >= min(height, width):
        raise ValueError(
            f"the recipe moves images by {shift} pixels, and these are {height} x {width}; "
            "take a preset for such images, or resize them (--size)"
        )


def channel_stats(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0, 1], to 4 digits; a deviation is 1/255 or more."""
    means, deviations = zip(*map(pixel_stats, images.unbind(1)), strict=True)
    return tuple(round(m, 4) for m in means), tuple(round(max(1 / 255, d), 4) for d in deviations)


def train(
    recipe: Recipe,
    images: Pixels,
    labels: Targets,
    file: Path,
    callback: Callback = lambda state: None,
    checkpoint_seconds: float = 60.0,
    device: torch.device | str = "cpu",
    extra_data: Dataset | None = None,
    init: Card | None = None,
    log: TrainingLog | None = None,
    classes: Sequence[str] = (),
    prior: Prior | None = None,
) -> TrainState:
    """Train by a complete ``recipe``, from the checkpoint ``file`` if there is one."""
    state = checkpoint.load_checkpoint(build_state(recipe, images, device, init, classes), file)
    batch_sampler: BatchSampler = schedule.iter_batches
    if extra_data is not None:
        fraction = recipe.extra_fraction
        batch_sampler = partial(schedule.mix_batches, n_own=len(images), extra_fraction=fraction)
        images, labels = schedule.concat_extra(images, labels, extra_data)
    return fit(
        state, build_loss(recipe, prior), images, labels, recipe.schedule, file, checkpoint_seconds,
        callback, log, partial(augment, recipe=recipe),
        partial(apply_lookahead, every=recipe.lookahead) if recipe.lookahead else None,
        batch_sampler,
    )  # fmt: skip


def build_state(
    recipe: Recipe,
    images: Pixels,
    device: torch.device | str = "cpu",
    init: Card | None = None,
    classes: Sequence[str] = (),
) -> TrainState:
    """The state before the first step, with the weights of ``init`` or of the seed."""
    network = initialization.build_seeded(
        recipe.network, recipe.options, recipe.schedule.seed, init, classes
    )
    if init is None and isinstance(network, WhitenedCNN):
        few = images[: _whitening_images(*images.shape[2:])]
        whiten(network, losses.normalize(few.float() / 255, recipe.mean, recipe.std))
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    network = network.to(device)
    return checkpoint.init_state(
        network, build_optimizer(network, recipe), len(recipe.schedule.ema_widths)
    )


def _whitening_images(height: int, width: int) -> int:
    """How many images estimate the covariance of patches: fewer of large ones, to save memory."""
    return min(5000, 5000 * 32 * 32 // (height * width))


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with a rate for biases and one for the rest; rate times decay is the same for both."""
    factor = recipe.bias_lr_factor
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    biases = [layer.bias for layer in norms] if factor != 1 else []
    ids = {id(bias) for bias in biases}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in ids]
    groups = [{"params": others, "lr": recipe.lr, "weight_decay": recipe.weight_decay}]
    if biases:
        lr, decay = recipe.lr * factor, recipe.weight_decay / factor
        groups.append({"params": biases, "lr": lr, "weight_decay": decay})
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True)


def check_prior(recipe: Recipe, prior: Prior | None, images: Pixels) -> None:
    """Refuse a score model of other images, or none where copies are denoised."""
    if not recipe.denoised:
        return
    if prior is None:
        raise ValueError(f"the recipe denoises by {recipe.denoised}; give that score model")
    if tuple(images.shape[1:]) != tuple(prior.image_shape):
        shape, other = (" x ".join(map(str, s)) for s in (images.shape[1:], prior.image_shape))
        raise ValueError(
            f"the score model {recipe.denoised} is of images of {other}, and these are {shape}; "
            "give one of such images"
        )
    if any((side, side) != tuple(images.shape[2:]) for _, side in recipe.crop_schedule):
        raise ValueError(
            f"the recipe crops images ({recipe.crop_schedule}), and a score model denoises whole "
            "ones; write crop_schedule=()"
        )


def build_loss(recipe: Recipe, prior: Prior | None = None) -> losses.Loss:
    """The cross-entropy, the adversarial loss of the recipe, or that of denoised copies."""
    mean, std, smoothing = recipe.mean, recipe.std, recipe.label_smoothing
    if recipe.denoised:
        assert prior is not None
        return partial(
            denoised_loss, denoise=denoise_once(prior, recipe.noise), noise=recipe.noise, mean=mean,
            std=std, label_smoothing=smoothing, clean_fraction=recipe.clean_fraction,
            consistency=recipe.consistency, confident=recipe.confident,
        )  # fmt: skip
    plain = partial(losses.classification_loss, mean=mean, std=std, label_smoothing=smoothing)
    if not recipe.adversarial:
        return plain
    step_size = recipe.step_size * recipe.eps
    search = partial(losses.pgd, eps=recipe.eps, step_size=step_size, steps=recipe.attack_steps)
    if recipe.adversarial == "n-fgsm":
        search = partial(losses.n_fgsm, eps=recipe.eps, step_size=step_size)
    if recipe.adversarial == "trades":
        return partial(
            losses.trades_loss,
            logits=partial(losses.compute_logits, mean=mean, std=std),
            clean_loss=partial(cross_entropy, label_smoothing=smoothing),
            inner_max=search,
            beta=recipe.beta,
        )
    single = recipe.adversarial in SINGLE_STEP_METHODS
    context = nullcontext if single else losses.frozen_batchnorm
    return partial(losses.adversarial_loss, base_loss=plain, inner_max=search, context=context)


def augment(images: Images, batch: Batch, source: Stream, recipe: Recipe) -> Crops:
    """The images mirrored in every other epoch, shifted, and cropped by the recipe's schedule."""
    sides = [side for until, side in recipe.crop_schedule if batch.progress < until]
    if recipe.hflip:
        images = schedule.alternating_flip(images, batch.indices, batch.epoch)
    size = (sides[0], sides[0]) if sides else None
    return schedule.random_shift(images, recipe.random_shift, source, size)


@torch.no_grad()
def apply_lookahead(state: TrainState, schedule: TrainingSchedule, every: int) -> None:
    """Reset the network to its running average, if a multiple of ``every`` steps has passed.

    Zhang et al. (2019).  At the fraction ``t`` of the training, the average keeps ``0.95^5 t^3`` of
    itself, as in Jordan (2024): it changes fast at the beginning and hardly at the end.
    """
    last = schedule.is_last(state.images_seen)
    if (state.images_seen // schedule.batch_size) % every and not last:
        return
    keep = 1.0 if last else 0.95**5 * (state.images_seen / schedule.total_images) ** 3
    fast = state.network.state_dict()
    for name, slow in state.average.state_dict().items():
        if slow.is_floating_point():
            slow.lerp_(fast[name], 1 - keep)
            fast[name].copy_(slow)
