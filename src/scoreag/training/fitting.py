"""A preset on other images than those that it was made for, and whether its network takes them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.data.loading import Dataset
from scoreag.training.classifier_presets import Recipe

DATASET_SHAPES = {  # of the data sets that presets are made for
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "tiny-imagenet": (3, 64, 64),
}
MAX_ERROR_CHARS = 160  # characters of torch's own words in a message


def preset_dataset(preset: str) -> str:
    """The data set that a preset is made for; "" where it is for any."""
    return next(
        (name for name in DATASET_SHAPES if preset.startswith(name.split("-mnist")[0] + "-")), ""
    )


def is_other_dataset(preset: str, data: Dataset) -> bool:
    """Whether a preset is made for other images than ``data``."""
    made = preset_dataset(preset)
    return bool(made) and data.name.partition(":")[0].partition("[")[0] != made


def adapt_recipe(recipe: Recipe, preset: str, data: Dataset) -> Recipe:
    """The recipe of a classifier for ``data``.

    On images that the preset is not made for, mean and deviation are those of the images, and the
    windows and shifts are scaled with the shorter side.
    """
    if not is_other_dataset(preset, data):
        return recipe
    before, side = min(DATASET_SHAPES[preset_dataset(preset)][1:]), min(data.images.shape[2:])
    scale = side / before
    sides = tuple(
        (until, round(one * scale)) for until, one in recipe.crop_schedule if one < before
    )
    shift = max(1, round(recipe.random_shift * scale)) if recipe.random_shift else 0
    return replace(recipe, mean=(), std=(), crop_schedule=sides, random_shift=shift)


def estimate_sigma_data(images: Tensor) -> float:
    """The deviation of 8-bit images in [-1, 1], to 2 digits and at least 0.05."""
    counts = torch.bincount(images.flatten(), minlength=256).double() / images.numel()
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    mean = (counts * values).sum()
    return max(0.05, round((counts * (values - mean).square()).sum().sqrt().item(), 2))


def check_input_shapes(
    build: Callable[..., nn.Module],
    options: Mapping[str, Any],
    inputs: Iterable[tuple[Tensor, ...]],
    name: str,
) -> None:
    """Refuse, before any work, a network that cannot be built or does not take ``inputs``.

    Args:
        build: of the network called ``name``; nothing is computed, and no memory taken.
        inputs: on the meta device, the image first.
    """
    shape: tuple[int, ...] = ()
    try:
        with torch.device("meta"):
            network = build(**options).train()
        for asked in inputs:
            shape = tuple(asked[0].shape)
            network(*asked)
    except NotImplementedError:  # somebody's own network, with a layer that asks for numbers
        return
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:MAX_ERROR_CHARS]
        seen = f"a batch of {shape[0]} images of {' x '.join(map(str, shape[1:]))}" if shape else ""
        raise ValueError(
            f"the network {name} cannot take {seen or 'these images'} ({told}); resize them "
            "(--size), or choose another preset: scoreag list presets"
        ) from error
