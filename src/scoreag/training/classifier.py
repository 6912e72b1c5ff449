"""Learn to classify: a recipe's network, its loss, its optimiser, and what precedes a step."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from scoreag.cards import Card, fill, weights
from scoreag.core.noise import Stream
from scoreag.core.types import Images, Labels, Logits
from scoreag.dataset import Dataset
from scoreag.load import load
from scoreag.networks.whitened_cnn import WhitenedCNN, whiten
from scoreag.training.adversary import adversarial_loss, pgd, settled, trades_loss
from scoreag.training.augment import Windows, alternating_flip, crop
from scoreag.training.extra import joined, mixed
from scoreag.training.loop import Batch, Loss, Order, Plan, State, batches, begin, fit, resume
from scoreag.training.recipes import PRESETS as PRESETS
from scoreag.training.recipes import Recipe as Recipe


def train(
    recipe: Recipe,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    file: Path,
    watch: Callable[[State], None] = lambda state: None,
    save_every: float = 60.0,
    device: torch.device | str = "cpu",
    extra: Dataset | None = None,
    init: Card | None = None,
    again: Callable[[State], None] = lambda state: None,
) -> State:
    """Follow ``recipe`` on ``images``; go on from the checkpoint ``file`` if there is one.

    Args:
        recipe: with options, mean and std that fit the images; see ``classifier_card.completed``.
        extra: labelled images that make up ``recipe.extra_share`` of each batch.
        init: the card whose weights to go on from, with a fresh optimiser.
        again: see ``fit``.
    """
    state = resume(start(recipe, images, device, init), file)
    order: Order = batches
    if extra is not None:
        order = partial(mixed, own=len(images), share=recipe.extra_share)
        images, labels = joined(images, labels, extra)
    return fit(
        state, loss_of(recipe), images, labels, recipe.plan, file, save_every, watch,
        prepare=partial(augmented, recipe=recipe), after=after(recipe), order=order,
        again=again,
    )  # fmt: skip


def start(
    recipe: Recipe,
    images: UInt8[Tensor, "count channel height width"],
    device: torch.device | str = "cpu",
    init: Card | None = None,
) -> State:
    """The network before its first step; new weights are a function of the plan's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.plan.seed)
        network: nn.Module = load("networks", recipe.network).build(**recipe.options)
    if init is not None:
        fill(network, weights(init), init.name)
    elif isinstance(network, WhitenedCNN):
        whiten(network, standardized(images[:5000].float() / 255, recipe.mean, recipe.std))
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    network = network.to(device)
    return begin(network, optimizer(network, recipe), len(recipe.plan.widths))


def optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with two rates.  The decay a step, rate times decay, is the same for both."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    biases = [layer.bias for layer in norms] if recipe.bias_rate != 1 else []
    known = {id(bias) for bias in biases}
    others = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    slow = {"params": others, "lr": recipe.rate, "weight_decay": recipe.decay}
    fast = {
        "params": biases,
        "lr": recipe.rate * recipe.bias_rate,
        "weight_decay": recipe.decay / recipe.bias_rate,
    }
    groups = [slow, fast] if biases else [slow]
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=True)


def loss_of(recipe: Recipe) -> Loss:
    """What a step lowers: the cross-entropy on the images, or what the recipe's adversary adds."""
    plain = partial(plain_loss, mean=recipe.mean, std=recipe.std, smoothing=recipe.smoothing)
    if not recipe.adversary:
        return plain
    search = partial(
        pgd, radius=recipe.radius, stride=recipe.stride * recipe.radius, steps=recipe.steps
    )
    if recipe.adversary == "fgsm-rs":
        return partial(adversarial_loss, plain=plain, search=search)
    if recipe.adversary == "pgd":
        return partial(adversarial_loss, plain=plain, search=search, during=settled)
    return partial(
        trades_loss,
        logits=partial(logits, mean=recipe.mean, std=recipe.std),
        fit=partial(cross_entropy, label_smoothing=recipe.smoothing),
        search=search,
        beta=recipe.beta,
    )


def plain_loss(
    network: nn.Module,
    images: Images,
    labels: Labels,
    source: Stream,
    mean: Sequence[float],
    std: Sequence[float],
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """``-log p(label | image)``, its mean over the batch."""
    said = logits(network, images, mean, std)
    return cross_entropy(said, labels, label_smoothing=smoothing)


def logits(
    network: nn.Module, images: Images, mean: Sequence[float], std: Sequence[float]
) -> Logits:
    """What the network says of images in [0, 1], in single precision."""
    return network(standardized(images, mean, std)).float()


def standardized(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """``(x - mean) / std`` a colour."""
    shape = (1, -1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


def augmented(images: Images, batch: Batch, source: Stream, recipe: Recipe) -> Windows:
    """Mirrored in every other epoch, moved a little, and cut to the side of this time."""
    whole = tuple(images.shape[2:])
    size = next(((side, side) for until, side in recipe.sides if batch.done < until), whole)
    if recipe.mirror:
        images = alternating_flip(images, batch.ids, batch.epoch)
    padded = pad(images, (recipe.shift,) * 4, mode="reflect")
    return crop(padded, size, source)


def after(recipe: Recipe) -> Callable[[State, Plan], None] | None:
    """What follows a step: lookahead, if the recipe wants it."""
    return partial(look_ahead, every=recipe.lookahead) if recipe.lookahead else None


@torch.no_grad()
def look_ahead(state: State, plan: Plan, every: int) -> None:
    """Every so many steps the network goes on from its running average (Zhang et al. 2019).

    The average keeps ``0.95^5 t^3`` of itself at the share ``t`` of the training, as in Jordan
    (2024): it forgets at the beginning and rests at the end.
    """
    last = state.seen >= plan.images
    if (state.seen // plan.batch) % every and not last:
        return
    kept = 1.0 if last else 0.95**5 * (state.seen / plan.images) ** 3
    fast = state.network.state_dict()
    for name, slow in state.average.state_dict().items():
        if slow.is_floating_point():
            slow.lerp_(fast[name], 1 - kept)
            fast[name].copy_(slow)
