"""From a trained classifier to a card: its weights, its recipe, and figures that were measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.attacks.pgd import Attack
from scoreag.cards import ZOO, Card, rewrite, write_card
from scoreag.core.algorithm import ALGORITHM
from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.images import to_float
from scoreag.metrics.accuracy import Rate
from scoreag.training.recipes import Recipe
from scoreag.training.terms import license_of


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
    **how: Any,
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
        licence=license or license_of(None, str(how.get("data", ""))),
        source=trained_by("classifier", command, how),
        algorithm=ALGORITHM,
        image_shape=image_shape,
        classes=tuple(classes),
        mean=tuple(recipe.mean),
        std=tuple(recipe.std),
        options=dict(recipe.options),
        recipe=how | numbers(recipe),
        folder=folder,
    )
    return write_card(card, network.state_dict(), half)


def trained_by(kind: str, command: str, how: Mapping[str, Any]) -> str:
    """The source of a card: the command, or what is known of a training by other means."""
    if command:
        return f"trained by: {command}"
    parts = [f"trained as a {kind}"]
    parts += [
        f"{word} {how[name]}" for name, word in (("data", "on"), ("init", "from")) if how.get(name)
    ]
    return ", ".join(parts)


def numbers(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values; what the card says elsewhere is left out."""
    plain = asdict(recipe)
    elsewhere = ("network", "options", "mean", "std")
    return {key: value for key, value in plain.items() if key not in elsewhere}


def figures(
    classifier: Classifier,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    of: str,
    attacks: Mapping[str, Attack] | None = None,
    batch: int = 250,
) -> dict[str, dict[str, Any]]:
    """Accuracy with its denominator and interval, on the images and under each attack.

    Args:
        classifier: of images in [0, 1].
        of: what the images are, e.g. "test images 0-9999".
    """
    found = {}
    for name, attack in {"": None, **(attacks or {})}.items():
        right = 0
        for start in range(0, len(images), batch):
            x, y = to_float(images[start : start + batch]), labels[start : start + batch]
            if attack:
                x = attack(classifier, x, y, Noise(0, range(start, start + len(x))))
            right += _right(classifier, x, y)
        found[f"accuracy_{name}" if name else "accuracy"] = Rate(right, len(images), of).to_dict()
    return found


def entered(card: Card, where: str, found: Mapping[str, Mapping[str, Any]]) -> Card:
    """The card with ``found`` under ``where``, e.g. "test"; what was there is replaced."""
    return rewrite(card, figures={**card.figures, where: found})


@torch.no_grad()
def _right(classifier: Classifier, images: Images, labels: Labels) -> int:
    return int((classifier(images).argmax(1) == labels).sum())
