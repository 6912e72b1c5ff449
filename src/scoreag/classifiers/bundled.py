"""The classifier of a card: its network, with its weights."""

from torch import nn

from scoreag.cards import Card, fill, weights
from scoreag.load import check_options
from scoreag.load import load as component


def load(card: Card) -> nn.Module:
    """The network as it was trained: it wants normalised images, and returns logits.

    Raises:
        ValueError: the card names no network or wrong options, or its weights do not fit.
    """
    build = component("networks", card.network).build
    check_options(build, dict(card.options), f"{card.name}: the network {card.network}")
    network: nn.Module = build(**card.options)
    fill(network, weights(card), card.name)
    return network.eval().requires_grad_(False)
