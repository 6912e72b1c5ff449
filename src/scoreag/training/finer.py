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

from scoreag.cards import Card, weights, write_card
from scoreag.load import load

ENDS = ("first.", "last.")
USUAL = {"patch": 2, "multipliers": [1, 2, 3]}  # of UNet, where its options do not say


def finer(card: Card, folder: Path, seed: int = 0) -> Card:
    """The card of ``card``'s network with half its patch, and one level more; in ``folder``.

    Args:
        seed: of the weights that are new.

    Raises:
        ValueError: it is no U-Net of patches.
    """
    patch, widths = (card.options.get(name, usual) for name, usual in USUAL.items())
    if card.network != "unet" or patch % 2 or widths[0] != 1:
        raise ValueError(
            f"{card.name} is a {card.network} of patch {patch} and multipliers {widths}; a finer "
            "level fits around a unet of an even patch whose first multiplier is 1: leave out "
            "--finer"
        )
    options = {**card.options, "patch": patch // 2, "multipliers": [1, *widths]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = load("networks", "unet").build(**options)
    fresh = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    moved = 1 + int(card.options.get("blocks", 1))  # layers of the new level on the way down
    return write_card(
        replace(card, file="model.safetensors", options=options, folder=folder, figures={}),
        {**fresh, **within(weights(card), moved)},
    )


def within(tensors: Mapping[str, Tensor], moved: int) -> dict[str, Tensor]:
    """The tensors of the levels, by the names that they have inside: the way down begins later."""
    return {_inner(n, moved): t for n, t in tensors.items() if not n.startswith(ENDS)}


def _inner(name: str, moved: int) -> str:
    part, *rest = name.split(".")
    return ".".join([part, str(int(rest[0]) + moved), *rest[1:]]) if part == "down" else name
