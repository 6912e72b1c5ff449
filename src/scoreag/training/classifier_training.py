"""From images to the card of a classifier: fit the recipe to the data, train, and export."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scoreag.classifiers.networks.airbench_cnn import WhitenedCNN, whiten
from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels, Logits
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card, load_weights, read_weights
from scoreag.registry import check_options, load_component
from scoreag.training.adversarial import adversarial_loss, frozen_batchnorm, pgd, trades_loss
from scoreag.training.batches import (
    Crops,
    Pixels,
    alternating_flip,
    check_extra,
    concat_extra,
    mix_batches,
    random_shift,
)
from scoreag.training.checkpoint import TrainState, init_state, resume_or_start
from scoreag.training.classifier_presets import Recipe
from scoreag.training.export import export, resolve_license
from scoreag.training.log import TrainingLog
from scoreag.training.loop import BatchSampler, Callback, Loss, fit
from scoreag.training.presets import check_input_shapes, data_options, pixel_stats
from scoreag.training.schedule import Batch, TrainingSchedule, iter_batches
from scoreag.training.warm_start import check_init, describe_init


def train_classifier(
    recipe: Recipe,
    images: Pixels,
    labels: Labels,
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
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        extra_data: labeled images, such as a score model's samples, that make up
            ``recipe.extra_fraction`` of each batch.
        init: the card whose network and weights to start from.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: the card's source.
    """
    recipe = complete_recipe(recipe, images, classes, init)
    check_extra(extra_data, images, len(classes), recipe.schedule, recipe.extra_fraction)
    file, schedule = folder / "checkpoint.pt", recipe.schedule
    every = max(schedule.batch_size, schedule.total_images // 20)
    log = TrainingLog(folder, schedule, every, progress=progress)
    state = train(
        recipe, images, labels, file, log.on_step, checkpoint_seconds, device, extra_data, init,
        log.open, partial(log.write_outputs, keep_samples=True),
    )  # fmt: skip
    provenance = {
        **(provenance or {}), **describe_extra_data(extra_data), **describe_init(init),
        **log.summary(state),
    }  # fmt: skip
    license = resolve_license(license, str(provenance.get("data", "")), init, extra_data)
    channels, height, width = images.shape[1:]
    return export(
        state.average, recipe, folder.resolve().name, folder, classes, (channels, height, width),
        license=license, command=command, **provenance,
    )  # fmt: skip


def complete_recipe(
    recipe: Recipe, images: Pixels, classes: Sequence[str], init: Card | None = None
) -> Recipe:
    """The recipe with what it leaves to the data: shape, number of classes, mean and deviation.

    Args:
        init: a card to start from, whose network and normalization take the recipe's place.

    Raises:
        ValueError: the recipe is for images of other channels or of another size.
    """
    channels, height, width = shape = tuple(images.shape[1:])
    if init is not None:
        recipe = _apply_init(recipe, init, shape, len(classes))
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
    sizes = [*((side, side) for _, side in recipe.crop_schedule), (height, width)]
    batch_shapes = [(recipe.schedule.batch_size, channels, *size) for size in sizes]
    inputs = [(torch.empty(*batch_shape, device="meta"),) for batch_shape in batch_shapes]
    check_input_shapes(build, options, inputs, recipe.network)
    return replace(recipe, options=options, mean=mean, std=std)


def _apply_init(recipe: Recipe, init: Card, shape: tuple[int, ...], classes: int) -> Recipe:
    """The recipe with the network of ``init``, which must be for such images and classes."""
    check_init(init, "classifier", "cifar10-resnet20", shape, classes)
    mean, std = (tuple(v) * (shape[0] if len(v) == 1 else 1) for v in (init.mean, init.std))
    return replace(recipe, network=init.network, options=init.options, mean=mean, std=std)


def channel_stats(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0, 1], to 4 digits; a deviation is 1/255 or more."""
    means, deviations = zip(*map(pixel_stats, images.unbind(1)), strict=True)
    return tuple(round(m, 4) for m in means), tuple(round(max(1 / 255, d), 4) for d in deviations)


def describe_extra_data(extra_data: Dataset | None) -> dict[str, Any]:
    """What the card says of the extra data; their fraction is part of the recipe."""
    if extra_data is None:
        return {}
    name, digest, count = extra_data.name, extra_data.sha256, len(extra_data)
    return {"extra": name, "extra_sha256": digest, "extra_images": count}


def train(
    recipe: Recipe,
    images: Pixels,
    labels: Labels,
    file: Path,
    callback: Callback = lambda state: None,
    checkpoint_seconds: float = 60.0,
    device: torch.device | str = "cpu",
    extra_data: Dataset | None = None,
    init: Card | None = None,
    on_start: Callback = lambda state: None,
    on_resume: Callback = lambda state: None,
) -> TrainState:
    """Follow a complete ``recipe``; resume from the checkpoint ``file`` if there is one."""
    state = resume_or_start(build_state(recipe, images, device, init), file)
    on_start(state)
    batch_sampler: BatchSampler = iter_batches
    if extra_data is not None:
        fraction = recipe.extra_fraction
        batch_sampler = partial(mix_batches, n_own=len(images), extra_fraction=fraction)
        images, labels = concat_extra(images, labels, extra_data)
    return fit(
        state, build_loss(recipe), images, labels, recipe.schedule, file, checkpoint_seconds,
        callback, prepare=partial(augment, recipe=recipe), batch_sampler=batch_sampler,
        on_step_end=partial(apply_lookahead, every=recipe.lookahead) if recipe.lookahead else None,
        on_resume=on_resume,
    )  # fmt: skip


def build_state(
    recipe: Recipe,
    images: Pixels,
    device: torch.device | str = "cpu",
    init: Card | None = None,
) -> TrainState:
    """The state before the first step; new weights are a function of the schedule's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.schedule.seed)
        network: nn.Module = load_component("networks", recipe.network).build(**recipe.options)
    if init is not None:
        load_weights(network, read_weights(init), init.name)
    elif isinstance(network, WhitenedCNN):
        whiten(network, normalize(images[:5000].float() / 255, recipe.mean, recipe.std))
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    network = network.to(device)
    return init_state(network, build_optimizer(network, recipe), len(recipe.schedule.ema_widths))


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with two rates.  The decay a step, rate times decay, is the same for both."""
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


def build_loss(recipe: Recipe) -> Loss:
    """What a step lowers: the cross-entropy on the images, or what the recipe's adversary adds."""
    mean, std, smoothing = recipe.mean, recipe.std, recipe.label_smoothing
    plain = partial(classification_loss, mean=mean, std=std, label_smoothing=smoothing)
    if not recipe.adversarial:
        return plain
    step_size = recipe.step_size * recipe.eps
    search = partial(pgd, eps=recipe.eps, step_size=step_size, steps=recipe.attack_steps)
    if recipe.adversarial == "trades":
        return partial(
            trades_loss,
            logits=partial(compute_logits, mean=mean, std=std),
            clean_loss=partial(cross_entropy, label_smoothing=smoothing),
            inner_max=search,
            beta=recipe.beta,
        )
    loss = partial(adversarial_loss, base_loss=plain, inner_max=search)
    return loss if recipe.adversarial == "fgsm-rs" else partial(loss, context=frozen_batchnorm)


def classification_loss(
    network: nn.Module,
    images: Images,
    labels: Labels,
    source: Stream,
    mean: Sequence[float],
    std: Sequence[float],
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """``-log p(label | image)``, its mean over the batch."""
    logits = compute_logits(network, images, mean, std)
    return cross_entropy(logits, labels, label_smoothing=label_smoothing)


def compute_logits(
    network: nn.Module, images: Images, mean: Sequence[float], std: Sequence[float]
) -> Logits:
    """The network's logits of images in [0, 1], in single precision."""
    return network(normalize(images, mean, std)).float()


def normalize(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """``(x - mean) / std`` a channel."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def augment(images: Images, batch: Batch, source: Stream, recipe: Recipe) -> Crops:
    """Mirrored in every other epoch, moved a little, and cropped as the recipe's schedule says."""
    sides = (side for until, side in recipe.crop_schedule if batch.progress < until)
    side = next(sides, None)
    if recipe.hflip:
        images = alternating_flip(images, batch.indices, batch.epoch)
    return random_shift(images, recipe.random_shift, source, (side, side) if side else None)


@torch.no_grad()
def apply_lookahead(state: TrainState, schedule: TrainingSchedule, every: int) -> None:
    """Every so many steps the network returns to its running average (Zhang et al. 2019).

    The average keeps ``0.95^5 t^3`` of itself at the fraction ``t`` of the training, as in Jordan
    (2024): it forgets at the beginning and rests at the end.
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
