"""A network with one level of finer maps around a trained one, to go on from (Karras et al. 2018).

A network of patches learns cheaply what images show, and never sees where in a patch a pixel lies
before its first layer has mixed it.  Put inside one of half the patch, its levels begin with what
they know; the new level around them, and the first and the last layer, begin as new ones do.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from scoreag.models.model_cards import Card, read_weights, write_card
from scoreag.registry import load_component

REINIT_PREFIXES = ("first.", "last.")
UNET_DEFAULTS = {"patch": 2, "multipliers": [1, 2, 3]}  # of UNet, where its options do not say


def grow_resolution(card: Card, folder: Path, seed: int = 0) -> Card:
    """The card of ``card``'s network with half its patch, and one level more; in ``folder``.

    Args:
        seed: of the weights that are new.

    Raises:
        ValueError: it is no U-Net of patches.
    """
    patch, widths = (card.options.get(name, usual) for name, usual in UNET_DEFAULTS.items())
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
    fresh = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    moved = 1 + int(card.options.get("blocks", 1))  # layers of the new level on the way down
    return write_card(
        replace(card, file="model.safetensors", options=options, folder=folder, metrics={}),
        {**fresh, **shift_level_names(read_weights(card), moved)},
    )


def shift_level_names(tensors: Mapping[str, Tensor], offset: int) -> dict[str, Tensor]:
    """The tensors of the levels, by the names that they have inside: the way down begins later."""
    return {
        _shift_level_name(n, offset): t
        for n, t in tensors.items()
        if not n.startswith(REINIT_PREFIXES)
    }


def _shift_level_name(name: str, offset: int) -> str:
    part, *rest = name.split(".")
    return ".".join([part, str(int(rest[0]) + offset), *rest[1:]]) if part == "down" else name
