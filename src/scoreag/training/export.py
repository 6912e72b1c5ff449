"""From a trained network to its card: weights, recipe, license, and metrics that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.attacks.pgd import PGD
from scoreag.core import ALGORITHM
from scoreag.core.types import Classifier, Images, Labels
from scoreag.data.loading import Dataset
from scoreag.io.images import to_float
from scoreag.models.model_cards import Card, update_card, write_card
from scoreag.stats.proportion import Proportion
from scoreag.training.classifier_presets import Recipe

DATASET_LICENSES = {
    "cifar10": "no terms are stated",
    "cifar100": "no terms are stated",
    "fashion-mnist": "MIT",
    "tiny-imagenet": "ImageNet's terms: research, not commerce",
}
UNKNOWN_LICENSE = "terms not known"
ELSEWHERE = ("network", "options", "mean", "std")  # of a recipe: the card has its own entries


def export(
    network: nn.Module,
    recipe: Recipe,
    name: str,
    folder: Path,
    classes: Sequence[str],
    image_shape: tuple[int, int, int] = (3, 32, 32),
    half: bool = True,
    license: str = "",
    command: str = "",
    **provenance: Any,
) -> Card:
    """Write the card and the weights of a classifier into ``folder``.

    Args:
        half: store the weights with 11 significant bits.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: the card's source.
        provenance: further entries of its training_config, such as data, minutes and machine.
    """
    config = {key: value for key, value in asdict(recipe).items() if key not in ELSEWHERE}
    card = Card(
        name=name,
        kind="classifier",
        network=recipe.network,
        file="model.safetensors",
        license=license or resolve_license(None, str(provenance.get("data", ""))),
        source=describe_source("classifier", command, provenance),
        algorithm=ALGORITHM,
        image_shape=image_shape,
        classes=tuple(classes),
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        options=dict(recipe.options),
        training_config=provenance | config,
        folder=folder,
    )
    return write_card(card, network.state_dict(), half)


def describe_source(kind: str, command: str, provenance: Mapping[str, Any]) -> str:
    """The source of a card: the command, or what is known of a training by other means."""
    if command:
        return f"trained by: {command}"
    parts = [f"trained as a {kind}"]
    for name, word in (("data", "on"), ("init", "from")):
        if provenance.get(name):
            parts.append(f"{word} {provenance[name]}")
    return ", ".join(parts)


def resolve_license(
    license_name: str | None, data: str, init: Card | None = None, extra_data: Dataset | None = None
) -> str:
    """The license given, or "unspecified" with the terms of all that the model was made from.

    Args:
        data: the name of the training images, e.g. "cifar10:train[0:45000]".
    """
    if license_name:
        return license_name
    names = [data, extra_data.name if extra_data else ""]
    sources = [f"{name}: {_dataset_license(name)}" for name in names if name]
    sources += [f"{init.name}: {init.license}"] if init else []
    return f"unspecified; made from {', '.join(sources)}" if sources else "unspecified"


def _dataset_license(name: str) -> str:
    return DATASET_LICENSES.get(name.partition(":")[0].partition("[")[0], UNKNOWN_LICENSE)


def measure_accuracy(
    classifier: Classifier,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    population: str,
    attacks: Mapping[str, PGD] | None = None,
    batch_size: int = 250,
) -> dict[str, dict[str, Any]]:
    """Accuracy with its denominator and interval, on the images and under each attack.

    Args:
        classifier: of images in [0, 1].
        population: what the images are, e.g. "test images 0-9999".
    """
    metrics = {}
    for name, attack in {"": None, **(attacks or {})}.items():
        count = 0
        for start in range(0, len(images), batch_size):
            x, y = to_float(images[start : start + batch_size]), labels[start : start + batch_size]
            if attack:
                x = attack(classifier, x, y, image_ids=range(start, start + len(x)))
            count += _count_correct(classifier, x, y)
        entry = Proportion(count, len(images), population).to_dict()
        metrics[f"accuracy_{name}" if name else "accuracy"] = entry
    return metrics


@torch.no_grad()
def _count_correct(classifier: Classifier, images: Images, labels: Labels) -> int:
    return int((classifier(images).argmax(1) == labels).sum())


def add_metrics(card: Card, split: str, metrics: Mapping[str, Mapping[str, Any]]) -> Card:
    """The card with ``metrics`` under ``split``, e.g. "test"; what was there is replaced."""
    return update_card(card, metrics={**card.metrics, split: metrics})
