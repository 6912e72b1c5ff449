"""Presets by name: their description, and their adaptation to other images."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.data.loading import Dataset
from scoreag.registry import UnknownNameError, did_you_mean, load_component
from scoreag.training.recipes import CLASSIFIER_PRESETS, SCORE_PRESETS, Recipe, ScoreRecipe

DATASET_SHAPES = {  # of the data sets that presets are made for
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "fashion-mnist": (1, 28, 28),
    "tiny-imagenet": (3, 64, 64),
}
CLASS_COUNTS = {"cifar100": 100, "tiny-imagenet": 200}  # else 10
MAX_ERROR_CHARS = 160  # of torch's message in ours
PRESET_COST = {
    "cifar10-resnet20": "two cores, 1.5 to 3 hours",
    "cifar10-judge": "one core, 31 minutes",
    "cifar10-robust": "two cores, 8 minutes",
    "cifar10-robust-prn": "one core, 2 hours",
    "cifar10-people": "one core, 15 minutes, from cifar10-judge",
    "cifar10-wrn-16-4": "a GPU",
    "cifar10-wrn-28-10": "a GPU",
    "cifar10-robust-wrn": "a large GPU",
    "fashion-cnn": "one core, 3 minutes",
    "fashion-robust": "one core, 2 minutes",
    "fashion-judge": "one core, 6 minutes",
    "cifar10-small": "one core, 20 hours",
    "cifar10-base": "a GPU, 15 minutes (estimate)",
    "cifar100-small": "one core, an hour, from cifar10",
    "cifar100-resnet": "one core, 45 minutes, from cifar10-robust-prn",
    "cifar100-judge": "one core, 40 minutes, from cifar10-judge",
    "fashion-small": "two cores, 25 minutes",
    "fashion-edm": "one core, 5 minutes",
    "fashion-ddpm": "one core, 5 minutes",
    "fashion-ncsn": "one core, 5 minutes",
    "tiny-imagenet-resnet": "one core, 15 minutes, from cifar10-robust-prn",
    "tiny-imagenet-small": "one core, 45 minutes, from cifar10",
    "tiny": "one core, a minute; learns next to nothing",
}


def get_preset(name: str, known: Mapping[str, Any]) -> Any:
    """The recipe of that name among ``known``; "did you mean" where there is none."""
    if name not in known:
        raise UnknownNameError(f"no preset {name!r}; {did_you_mean(name, list(known))}")
    return known[name]


def list_presets() -> dict[str, str]:
    """A line for each preset of ``train classifier`` and of ``train score-model``."""
    recipes: dict[str, Recipe | ScoreRecipe] = {**CLASSIFIER_PRESETS, **SCORE_PRESETS}
    return {name: _describe_preset(name, recipe) for name, recipe in recipes.items()}


def _describe_preset(name: str, recipe: Recipe | ScoreRecipe) -> str:
    """What a preset trains, for which images, its size, and its cost."""
    kind = "classifier" if isinstance(recipe, Recipe) else "score-model"
    data = preset_dataset(name)
    shape = DATASET_SHAPES.get(data, DATASET_SHAPES["cifar10"])
    images = f"{data}, {' x '.join(map(str, shape))}" if data else "any images"
    method = recipe.adversarial if isinstance(recipe, Recipe) else ""
    build = load_component("networks", recipe.network).build
    options = {**recipe.options, **data_options(build, shape, CLASS_COUNTS.get(data, 10))}
    with torch.device("meta"):
        count = sum(p.numel() for p in build(**options).parameters())
    return (
        f"{kind} for {images}: {recipe.network}{f' against {method}' if method else ''}, "
        f"{count / 1e6:.2f} M parameters, "
        f"{recipe.schedule.total_images:,} images; {PRESET_COST[name]}"
    )


def data_options(
    build: Callable[..., nn.Module], shape: tuple[int, ...], classes: int
) -> dict[str, Any]:
    """The arguments of a network that depend on the data, if it takes them."""
    known = {"image_shape": list(shape), "classes": classes}
    return {name: value for name, value in known.items() if name in signature(build).parameters}


def preset_dataset(preset: str) -> str:
    """The data set that a preset is for; "" if it is for any."""
    names = (n for n in DATASET_SHAPES if preset.startswith(n.removesuffix("-mnist") + "-"))
    return next(names, "")


def is_other_dataset(preset: str, data: Dataset) -> bool:
    """Whether a preset is for another data set than ``data``."""
    name = preset_dataset(preset)
    return bool(name) and data.name.partition(":")[0].partition("[")[0] != name


def adapt_recipe(recipe: Recipe, preset: str, data: Dataset) -> Recipe:
    """The recipe of a classifier for ``data``.

    If the preset is for other images, mean and deviation become those of the data, and crops and
    shifts are scaled with the shorter side.
    """
    if not is_other_dataset(preset, data):
        return recipe
    preset_side = min(DATASET_SHAPES[preset_dataset(preset)][1:])
    scale = min(data.images.shape[2:]) / preset_side
    crops = tuple(
        (until, round(side * scale)) for until, side in recipe.crop_schedule if side < preset_side
    )
    shift = max(1, round(recipe.random_shift * scale)) if recipe.random_shift else 0
    return replace(recipe, mean=(), std=(), crop_schedule=crops, random_shift=shift)


def pixel_stats(images: Tensor) -> tuple[float, float]:
    """Mean and deviation of 8-bit pixels in [0, 1], from a histogram, without a float copy."""
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = torch.bincount(images.flatten(), minlength=256).double() / images.numel()
    mean = (shares * values).sum()
    return mean.item(), (shares * (values - mean).square()).sum().sqrt().item()


def estimate_sigma_data(images: Tensor) -> float:
    """The deviation of 8-bit images, scaled to [-1, 1], to 2 digits and at least 0.05."""
    return max(0.05, round(2 * pixel_stats(images)[1], 2))


def check_input_shapes(
    build: Callable[..., nn.Module],
    options: Mapping[str, Any],
    inputs: Iterable[tuple[Tensor, ...]],
    name: str,
) -> None:
    """Refuse the network ``name`` if it cannot be built or cannot take ``inputs``.

    Nothing is computed: all tensors are on the meta device.  The first of the inputs is the images.
    """
    shape: tuple[int, ...] = ()
    try:
        with torch.device("meta"):
            network = build(**options).train()
        for tensors in inputs:
            shape = tuple(tensors[0].shape)
            network(*tensors)
    except NotImplementedError:  # a layer of a user's network does not support the meta device
        return
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_ERROR_CHARS]
        size = " x ".join(map(str, shape[1:]))
        images = f"a batch of {shape[0]} images of {size}" if shape else "these images"
        raise ValueError(
            f"the network {name} cannot take {images} ({reason}); resize them (--size), "
            "or choose another preset: scoreag list presets"
        ) from error
