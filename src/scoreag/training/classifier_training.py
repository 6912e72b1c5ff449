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

from scoreag.core.types import Labels
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card
from scoreag.registry import check_options, load_component
from scoreag.training.classifier import build_state, train
from scoreag.training.classifier_presets import Recipe
from scoreag.training.data_terms import resolve_license
from scoreag.training.export import export
from scoreag.training.extra_data import check_extra
from scoreag.training.fitting import check_input_shapes
from scoreag.training.log import TrainingLog, last_loss, resume_or_start
from scoreag.training.warm_start import check_init, describe_init

Pixels = UInt8[Tensor, "count channel height width"]


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
        extra: labelled images, such as a score model's samples, that make up
            ``recipe.extra_share`` of each batch.
        init: the card whose network and weights to go on from.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: that was given, to be told by the card.
    """
    recipe = complete_recipe(recipe, images, classes, init)
    check_extra(extra_data, images, len(classes), recipe.schedule, recipe.extra_fraction)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    provenance, file = (
        {**(provenance or {}), **describe_extra_data(extra_data), **describe_init(init)},
        folder / "checkpoint.pt",
    )
    journal = TrainingLog(
        folder,
        recipe.schedule,
        max(recipe.schedule.batch_size, recipe.schedule.total_images // 20),
        progress=progress,
    )
    journal.open(resume_or_start(build_state(recipe, images, init=init), file))
    state = train(
        recipe, images, labels, file, journal.on_step, checkpoint_seconds, device, extra_data, init,
        partial(journal.write_outputs, keep_samples=True),
    )  # fmt: skip
    return export(
        state.average,
        recipe,
        folder.resolve().name,
        folder,
        classes,
        shape,
        license=resolve_license(license, str(provenance.get("data", "")), init, extra_data),
        command=command,
        **provenance,
        images_seen=state.images_seen,
        minutes=round(journal.elapsed_seconds / 60, 1),
        loss=round(last_loss(state), 5),
    )


def complete_recipe(
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
        recipe = _apply_init(recipe, init, shape, len(classes))
    build = load_component("networks", recipe.network).build
    known = {"image_shape": list(shape), "classes": len(classes)}
    told = {name: value for name, value in known.items() if name in signature(build).parameters}
    options = {**recipe.options, **told}
    check_options(build, options, f"the network {recipe.network}")
    mean, std = (recipe.mean, recipe.std) if recipe.mean else channel_stats(images)
    channels = len(mean) if "image_shape" in told else 3  # a network that is not told takes RGB
    if not len(mean) == len(std) == channels == shape[0]:
        raise ValueError(
            f"the recipe is for images of {channels} channels, and these have {shape[0]}; "
            "take a preset for such images"
        )
    largest = max((side for _, side in recipe.crop_schedule), default=0)
    if largest > min(shape[1:]) + 2 * recipe.random_shift:
        raise ValueError(
            f"the recipe cuts windows of side {largest}, and the images are {shape[1]} x "
            f"{shape[2]}; take a preset for such images"
        )
    _check_input_shapes(recipe, options, shape)
    return replace(recipe, options=options, mean=mean, std=std)


def _check_input_shapes(recipe: Recipe, options: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Refuse a recipe whose network does not take the images, or the windows of them."""
    if recipe.random_shift >= min(shape[1:]):
        raise ValueError(
            f"the recipe moves images by {recipe.random_shift} pixels, and these are {shape[1]} x "
            f"{shape[2]}; take a preset for such images, or resize them (--size)"
        )
    sizes = [*((side, side) for _, side in recipe.crop_schedule), shape[1:]]
    batch, build = recipe.schedule.batch_size, load_component("networks", recipe.network).build
    inputs = [(torch.empty(batch, shape[0], *size, device="meta"),) for size in sizes]
    check_input_shapes(build, options, inputs, recipe.network)


def _apply_init(recipe: Recipe, init: Card, shape: tuple[int, ...], classes: int) -> Recipe:
    """The recipe with the network of ``init``, which must be for such images and classes."""
    check_init(init, "classifier", "cifar10-resnet20", shape, classes)
    mean, std = (tuple(v) * (shape[0] if len(v) == 1 else 1) for v in (init.mean, init.std))
    return replace(recipe, network=init.network, options=init.options, mean=mean, std=std)


def channel_stats(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


def describe_extra_data(extra_data: Dataset | None) -> dict[str, Any]:
    """What the card says of the extra data; their share is among the recipe's numbers."""
    if extra_data is None:
        return {}
    return {
        "extra": extra_data.name,
        "extra_sha256": extra_data.sha256,
        "extra_images": len(extra_data),
    }
