"""A card to start from: whether it fits the data, and one level of finer maps around it.

A network of patches learns cheaply what images show, and never sees where in a patch a pixel lies
before its first layer has mixed it.  Put inside one of half the patch (Karras et al. 2018), its
levels begin with what they know; the new level around them, and the first and the last layer, begin
as new ones do.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.models.model_cards import Card, read_weights, write_card
from scoreag.registry import load_component

REINIT_PREFIXES = ("first.", "last.")
UNET_DEFAULTS = {"patch": 2, "multipliers": [1, 2, 3]}  # of UNet, where its options do not say


def check_init(init: Card, kind: str, example: str, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a card of another kind, of other images, or of another number of classes."""
    if init.kind != kind:
        raise ValueError(f"{init.name} is a {init.kind}; start from a {kind}, e.g. {example}")
    if tuple(init.image_shape) != shape or len(init.classes) != classes:
        raise ValueError(
            f"{init.name} is for {init.image_shape} images of {len(init.classes)} classes, and the "
            f"data are {shape} images of {classes}"
        )


def describe_init(init: Card | None) -> dict[str, Any]:
    """What the new card says of the weights that it started from."""
    return {"init": init.name, "init_sha256": init.sha256} if init is not None else {}


def grow_resolution(card: Card, folder: Path, seed: int = 0) -> Card:
    """The card of ``card``'s network with half its patch, and one level more; in ``folder``.

    Args:
        seed: of the weights that are new.

    Raises:
        ValueError: it is no U-Net of patches.
    """
    patch, widths = (card.options.get(name, default) for name, default in UNET_DEFAULTS.items())
    if card.network != "unet" or patch % 2 or widths[0] != 1:
        raise ValueError(
            f"{card.name} is a {card.network} of patch {patch} and multipliers {widths}; a finer "
            "level fits around a unet of an even patch whose first multiplier is 1: leave out "
            "--grow-resolution"
        )
    options = {**card.options, "patch": patch // 2, "multipliers": [1, *widths]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = load_component("networks", "unet").build(**options)
    new = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    offset = 1 + int(card.options.get("blocks", 1))  # layers of the new level on the way down
    return write_card(
        replace(card, file="model.safetensors", options=options, folder=folder, metrics={}),
        {**new, **shift_level_names(read_weights(card), offset)},
    )


def shift_level_names(tensors: Mapping[str, Tensor], offset: int) -> dict[str, Tensor]:
    """The tensors of the levels, by the names that they have inside: the way down begins later."""
    return {
        _shift_level_name(name, offset): tensor
        for name, tensor in tensors.items()
        if not name.startswith(REINIT_PREFIXES)
    }


def _shift_level_name(name: str, offset: int) -> str:
    part, *rest = name.split(".")
    return ".".join([part, str(int(rest[0]) + offset), *rest[1:]]) if part == "down" else name
