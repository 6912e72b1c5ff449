"""The presets, each with what it is for, how large it is, and what it takes."""

from inspect import signature

import torch

from scoreag.registry import load_component
from scoreag.training.classifier_presets import PRESETS as CLASSIFIERS
from scoreag.training.classifier_presets import Recipe
from scoreag.training.fitting import DATASET_SHAPES, preset_dataset
from scoreag.training.score_presets import PRESETS as SCORE_MODELS
from scoreag.training.score_presets import ScoreRecipe

CLASS_COUNTS = {"cifar100": 100, "tiny-imagenet": 200}  # else 10
PRESET_COST = {
    "cifar10-resnet20": "two cores, 1.5 to 3 hours",
    "cifar10-judge": "one core, 31 minutes",
    "cifar10-robust": "two cores, 8 minutes",
    "cifar10-wrn-16-4": "a GPU",
    "cifar10-wrn-28-10": "a GPU",
    "cifar10-robust-wrn": "a large GPU",
    "fashion-cnn": "one core, 3 minutes",
    "fashion-robust": "one core, 2 minutes",
    "fashion-judge": "one core, 6 minutes",
    "cifar10-small": "two cores, hours",
    "cifar10-base": "a GPU",
    "cifar100-small": "two cores; not measured",
    "fashion-small": "two cores, 25 minutes",
    "fashion-edm": "one core, 5 minutes",
    "fashion-ddpm": "one core, 5 minutes",
    "fashion-ncsn": "one core, 5 minutes",
    "tiny-imagenet-small": "two cores, long; not measured",
    "tiny": "one core, a minute; learns next to nothing",
}


def list_presets() -> dict[str, str]:
    """A line for each preset of ``train classifier`` and of ``train score-model``."""
    made: dict[str, Recipe | ScoreRecipe] = {**CLASSIFIERS, **SCORE_MODELS}
    return {name: describe_preset(name, recipe) for name, recipe in made.items()}


def describe_preset(name: str, recipe: Recipe | ScoreRecipe) -> str:
    """What a preset trains, for which images, its size, and what it takes."""
    kind = "classifier" if isinstance(recipe, Recipe) else "score-model"
    data = preset_dataset(name)
    shape = DATASET_SHAPES.get(data, DATASET_SHAPES["cifar10"])
    size = f"{data}, {' x '.join(map(str, shape))}" if data else "any images"
    adversary = recipe.adversarial if isinstance(recipe, Recipe) else ""
    return (
        f"{kind} for {size}: {recipe.network}{f' against {adversary}' if adversary else ''}, "
        f"{count_parameters(recipe, shape, CLASS_COUNTS.get(data, 10)) / 1e6:.2f} M parameters, "
        f"{recipe.schedule.total_images:,} images; {PRESET_COST[name]}"
    )


def count_parameters(recipe: Recipe | ScoreRecipe, shape: tuple[int, ...], classes: int) -> int:
    """How many numbers its network learns, of such images and so many classes."""
    build = load_component("networks", recipe.network).build
    known = {"image_shape": list(shape), "classes": classes}
    told = {name: value for name, value in known.items() if name in signature(build).parameters}
    with torch.device("meta"):
        network = build(**{**recipe.options, **told})
    return sum(p.numel() for p in network.parameters())
