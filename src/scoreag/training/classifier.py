"""Learn to classify: a recipe's network, its loss, its optimiser, and what precedes a step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from scoreag.classifiers.networks.airbench_cnn import WhitenedCNN, whiten
from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels, Logits
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card, load_weights, read_weights
from scoreag.registry import load_component
from scoreag.training.adversarial import adversarial_loss, frozen_batchnorm, pgd, trades_loss
from scoreag.training.augment import Crops, alternating_flip, random_crop
from scoreag.training.classifier_presets import PRESETS as PRESETS
from scoreag.training.classifier_presets import Recipe as Recipe
from scoreag.training.extra_data import concat_extra, mix_batches
from scoreag.training.loop import (
    Batch,
    BatchSampler,
    Loss,
    TrainingSchedule,
    TrainState,
    fit,
    init_state,
    iter_batches,
    load_checkpoint,
)


def train(
    recipe: Recipe,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    file: Path,
    callback: Callable[[TrainState], None] = lambda state: None,
    checkpoint_seconds: float = 60.0,
    device: torch.device | str = "cpu",
    extra_data: Dataset | None = None,
    init: Card | None = None,
    on_resume: Callable[[TrainState], None] = lambda state: None,
) -> TrainState:
    """Follow ``recipe`` on ``images``; go on from the checkpoint ``file`` if there is one.

    Args:
        recipe: with options, mean and std that fit the images; see ``classifier_card.completed``.
        extra: labelled images that make up ``recipe.extra_share`` of each batch.
        init: the card whose weights to go on from, with a fresh optimiser.
        again: see ``fit``.
    """
    state = load_checkpoint(build_state(recipe, images, device, init), file)
    order: BatchSampler = iter_batches
    if extra_data is not None:
        order = partial(mix_batches, n_own=len(images), extra_fraction=recipe.extra_fraction)
        images, labels = concat_extra(images, labels, extra_data)
    return fit(
        state, build_loss(recipe), images, labels, recipe.schedule, file, checkpoint_seconds, callback,
        prepare=partial(augment, recipe=recipe), on_step_end=make_step_hook(recipe), batch_sampler=order,
        on_resume=on_resume,
    )  # fmt: skip


def build_state(
    recipe: Recipe,
    images: UInt8[Tensor, "count channel height width"],
    device: torch.device | str = "cpu",
    init: Card | None = None,
) -> TrainState:
    """The network before its first step; new weights are a function of the plan's seed."""
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
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    biases = [layer.bias for layer in norms] if recipe.bias_lr_factor != 1 else []
    known = {id(bias) for bias in biases}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    slow = {"params": others, "lr": recipe.lr, "weight_decay": recipe.weight_decay}
    fast = {
        "params": biases,
        "lr": recipe.lr * recipe.bias_lr_factor,
        "weight_decay": recipe.weight_decay / recipe.bias_lr_factor,
    }
    groups = [slow, fast] if biases else [slow]
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True)


def build_loss(recipe: Recipe) -> Loss:
    """What a step lowers: the cross-entropy on the images, or what the recipe's adversary adds."""
    plain = partial(
        classification_loss,
        mean=recipe.mean,
        std=recipe.std,
        label_smoothing=recipe.label_smoothing,
    )
    if not recipe.adversarial:
        return plain
    search = partial(
        pgd, eps=recipe.eps, step_size=recipe.step_size * recipe.eps, steps=recipe.attack_steps
    )
    if recipe.adversarial == "fgsm-rs":
        return partial(adversarial_loss, base_loss=plain, inner_max=search)
    if recipe.adversarial == "pgd":
        return partial(
            adversarial_loss, base_loss=plain, inner_max=search, context=frozen_batchnorm
        )
    return partial(
        trades_loss,
        logits=partial(compute_logits, mean=recipe.mean, std=recipe.std),
        clean_loss=partial(cross_entropy, label_smoothing=recipe.label_smoothing),
        inner_max=search,
        beta=recipe.beta,
    )


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
    said = compute_logits(network, images, mean, std)
    return cross_entropy(said, labels, label_smoothing=label_smoothing)


def compute_logits(
    network: nn.Module, images: Images, mean: Sequence[float], std: Sequence[float]
) -> Logits:
    """What the network says of images in [0, 1], in single precision."""
    return network(normalize(images, mean, std)).float()


def normalize(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """``(x - mean) / std`` a colour."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def augment(images: Images, batch: Batch, source: Stream, recipe: Recipe) -> Crops:
    """Mirrored in every other epoch, moved a little, and cut to the side of this time."""
    whole = tuple(images.shape[2:])
    size = next(
        ((side, side) for until, side in recipe.crop_schedule if batch.progress < until), whole
    )
    if recipe.hflip:
        images = alternating_flip(images, batch.indices, batch.epoch)
    padded = pad(images, (recipe.random_shift,) * 4, mode="reflect")
    return random_crop(padded, size, source)


def make_step_hook(recipe: Recipe) -> Callable[[TrainState, TrainingSchedule], None] | None:
    """What follows a step: lookahead, if the recipe wants it."""
    return partial(apply_lookahead, every=recipe.lookahead) if recipe.lookahead else None


@torch.no_grad()
def apply_lookahead(state: TrainState, schedule: TrainingSchedule, every: int) -> None:
    """Every so many steps the network goes on from its running average (Zhang et al. 2019).

    The average keeps ``0.95^5 t^3`` of itself at the share ``t`` of the training, as in Jordan
    (2024): it forgets at the beginning and rests at the end.
    """
    last = state.images_seen >= schedule.total_images
    if (state.images_seen // schedule.batch_size) % every and not last:
        return
    kept = 1.0 if last else 0.95**5 * (state.images_seen / schedule.total_images) ** 3
    fast = state.network.state_dict()
    for name, slow in state.average.state_dict().items():
        if slow.is_floating_point():
            slow.lerp_(fast[name], 1 - kept)
            fast[name].copy_(slow)
