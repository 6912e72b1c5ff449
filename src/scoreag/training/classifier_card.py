"""From images to the card of a classifier: train, and export."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.cards import Card
from scoreag.core.types import Labels
from scoreag.training.classifier import start, train
from scoreag.training.export import export
from scoreag.training.journal import Journal, continued, last_loss
from scoreag.training.recipes import Recipe


def train_classifier(
    recipe: Recipe,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    classes: Sequence[str],
    folder: Path,
    about: Mapping[str, Any] | None = None,
    save_every: float = 60.0,
    progress: bool = True,
    device: torch.device | str = "cpu",
) -> Card:
    """Follow ``recipe`` in ``folder``, from its checkpoint if there is one; the card."""
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    about, file = dict(about or {}), folder / "checkpoint.pt"
    journal = Journal(
        folder, recipe.plan, max(recipe.plan.batch, recipe.plan.images // 20), progress=progress
    )
    journal.open(continued(start(recipe, images), file))
    state = train(recipe, images, labels, file, journal.watch, save_every, device)
    return export(
        state.average,
        recipe,
        about.get("preset", folder.resolve().name),
        folder,
        classes,
        shape,
        **about,
        images_seen=state.seen,
        minutes=round(journal.seconds / 60, 1),
        loss=round(last_loss(state), 5),
    )
