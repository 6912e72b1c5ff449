"""From a trained classifier to a card: its weights, its recipe, and figures that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.attacks.pgd import PGD
from scoreag.core.algorithm import ALGORITHM
from scoreag.core.types import Classifier, Images, Labels
from scoreag.io.images import to_float
from scoreag.models.model_cards import ZOO, Card, update_card, write_card
from scoreag.stats.proportion import Proportion
from scoreag.training.classifier_presets import Recipe
from scoreag.training.data_terms import resolve_license


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
    """Write the card and the weights into ``folder``.

    Args:
        half: store the weights with 11 significant bits.
        license: of the weights; "" is unspecified, with what is known of the data's terms.
        command: that was given, to be told as the source.
        how: further entries of the card's recipe, such as data, minutes and machine.
    """
    card = Card(
        name=name,
        kind="classifier",
        network=recipe.network,
        file=f"{name}.safetensors" if folder == ZOO else "model.safetensors",
        license=license or resolve_license(None, str(provenance.get("data", ""))),
        source=describe_source("classifier", command, provenance),
        algorithm=ALGORITHM,
        image_shape=image_shape,
        classes=tuple(classes),
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        options=dict(recipe.options),
        training_config=provenance | recipe_to_dict(recipe),
        folder=folder,
    )
    return write_card(card, network.state_dict(), half)


def describe_source(kind: str, command: str, provenance: Mapping[str, Any]) -> str:
    """The source of a card: the command, or what is known of a training by other means."""
    if command:
        return f"trained by: {command}"
    parts = [f"trained as a {kind}"]
    parts += [
        f"{word} {provenance[name]}"
        for name, word in (("data", "on"), ("init", "from"))
        if provenance.get(name)
    ]
    return ", ".join(parts)


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values; what the card says elsewhere is left out."""
    plain = asdict(recipe)
    elsewhere = ("network", "options", "mean", "std")
    return {key: value for key, value in plain.items() if key not in elsewhere}


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
        of: what the images are, e.g. "test images 0-9999".
    """
    found = {}
    for name, attack in {"": None, **(attacks or {})}.items():
        right = 0
        for start in range(0, len(images), batch_size):
            x, y = to_float(images[start : start + batch_size]), labels[start : start + batch_size]
            if attack:
                x = attack(classifier, x, y, image_ids=range(start, start + len(x)))
            right += _count_correct(classifier, x, y)
        found[f"accuracy_{name}" if name else "accuracy"] = Proportion(
            right, len(images), population
        ).to_dict()
    return found


def add_metrics(card: Card, split: str, metrics: Mapping[str, Mapping[str, Any]]) -> Card:
    """The card with ``found`` under ``where``, e.g. "test"; what was there is replaced."""
    return update_card(card, metrics={**card.metrics, split: metrics})


@torch.no_grad()
def _count_correct(classifier: Classifier, images: Images, labels: Labels) -> int:
    return int((classifier(images).argmax(1) == labels).sum())
