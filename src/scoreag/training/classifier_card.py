"""From images to the card of a classifier: fit the recipe to the data, train, and export."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.cards import Card
from scoreag.core.types import Labels
from scoreag.dataset import Dataset
from scoreag.load import check_options, load
from scoreag.training.classifier import start, train
from scoreag.training.export import export
from scoreag.training.extra import check_extra
from scoreag.training.fitting import check_takes
from scoreag.training.init import begun, check_init
from scoreag.training.journal import Journal, continued, last_loss
from scoreag.training.recipes import Recipe
from scoreag.training.terms import license_of

Pixels = UInt8[Tensor, "count channel height width"]


def train_classifier(
    recipe: Recipe,
    images: Pixels,
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    about: Mapping[str, Any] | None = None,
    save_every: float = 60.0,
    progress: bool = True,
    device: torch.device | str = "cpu",
    extra: Dataset | None = None,
    init: Card | None = None,
    license: str = "",
    command: str = "",
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card.

    Args:
        extra: labelled images, such as a score model's samples, that make up
            ``recipe.extra_share`` of each batch.
        init: the card whose network and weights to go on from.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: that was given, to be told by the card.
    """
    recipe = completed(recipe, images, classes, init)
    check_extra(extra, images, len(classes), recipe.plan, recipe.extra_share)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    about, file = {**(about or {}), **origin(extra), **begun(init)}, folder / "checkpoint.pt"
    journal = Journal(
        folder, recipe.plan, max(recipe.plan.batch, recipe.plan.images // 20), progress=progress
    )
    journal.open(continued(start(recipe, images, init=init), file))
    state = train(
        recipe, images, labels, file, journal.watch, save_every, device, extra, init,
        partial(journal.leave, again=True),
    )  # fmt: skip
    return export(
        state.average,
        recipe,
        folder.resolve().name,
        folder,
        classes,
        shape,
        license=license_of(license, str(about.get("data", "")), init, extra),
        command=command,
        **about,
        images_seen=state.seen,
        minutes=round(journal.seconds / 60, 1),
        loss=round(last_loss(state), 5),
    )


def completed(
    recipe: Recipe, images: Pixels, classes: Sequence[str], init: Card | None = None
) -> Recipe:
    """The recipe with what it leaves to the data: shape, number of classes, mean and deviation.

    Args:
        init: a card to go on from, whose network and normalisation take the recipe's place.

    Raises:
        ValueError: the recipe is for images of other colours or of another size.
    """
    shape = tuple(images.shape[1:])
    if init is not None:
        recipe = _going_on(recipe, init, shape, len(classes))
    build = load("networks", recipe.network).build
    known = {"image_shape": list(shape), "classes": len(classes)}
    told = {name: value for name, value in known.items() if name in signature(build).parameters}
    options = {**recipe.options, **told}
    check_options(build, options, f"the network {recipe.network}")
    mean, std = (recipe.mean, recipe.std) if recipe.mean else moments(images)
    channels = len(mean) if "image_shape" in told else 3  # a network that is not told takes RGB
    if not len(mean) == len(std) == channels == shape[0]:
        raise ValueError(
            f"the recipe is for images of {channels} channels, and these have {shape[0]}; "
            "take a preset for such images"
        )
    largest = max((side for _, side in recipe.sides), default=0)
    if largest > min(shape[1:]) + 2 * recipe.shift:
        raise ValueError(
            f"the recipe cuts windows of side {largest}, and the images are {shape[1]} x "
            f"{shape[2]}; take a preset for such images"
        )
    _check_takes(recipe, options, shape)
    return replace(recipe, options=options, mean=mean, std=std)


def _check_takes(recipe: Recipe, options: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse a recipe whose network does not take the images, or the windows of them."""
    if recipe.shift >= min(shape[1:]):
        raise ValueError(
            f"the recipe moves images by {recipe.shift} pixels, and these are {shape[1]} x "
            f"{shape[2]}; take a preset for such images, or resize them (--size)"
        )
    sizes = [*((side, side) for _, side in recipe.sides), shape[1:]]
    batch, build = recipe.plan.batch, load("networks", recipe.network).build
    inputs = [(torch.empty(batch, shape[0], *size, device="meta"),) for size in sizes]
    check_takes(build, options, inputs, recipe.network)


def _going_on(recipe: Recipe, init: Card, shape: tuple[int, ...], classes: int) -> Recipe:
    """The recipe with the network of ``init``, which must be for such images and classes."""
    check_init(init, "classifier", "cifar10-resnet20", shape, classes)
    mean, std = (tuple(v) * (shape[0] if len(v) == 1 else 1) for v in (init.mean, init.std))
    return replace(recipe, network=init.network, options=init.options, mean=mean, std=std)


def moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0, 1], to 4 digits; a deviation is 1/255 or more.

    By counting the 256 values, which needs no copy in floating point.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = [
        torch.bincount(channel.flatten(), minlength=256) / channel.numel()
        for channel in images.unbind(1)
    ]
    means = [(share * values).sum() for share in shares]
    variances = [
        (share * (values - mean).square()).sum() for share, mean in zip(shares, means, strict=True)
    ]
    deviations = [max(1 / 255, variance.sqrt().item()) for variance in variances]
    return tuple(round(m.item(), 4) for m in means), tuple(round(d, 4) for d in deviations)


def origin(extra: Dataset | None) -> dict[str, Any]:
    """What the card says of the extra data; their share is among the recipe's numbers."""
    if extra is None:
        return {}
    return {"extra": extra.name, "extra_sha256": extra.sha256, "extra_images": len(extra)}
