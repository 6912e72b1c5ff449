"""The classifier of a card: its network with its weights."""

from torch import nn

from scoreag.building import within
from scoreag.cards import Card, fill, weights
from scoreag.classifiers import architecture


def load(card: Card) -> nn.Module:
    """The network as it was trained: it wants normalised images, and returns logits.

    Raises:
        ValueError: it cannot be built, or its weights are missing, altered, or do not fit.
    """
    given = weights(card)
    try:
        with within(given):
            module = architecture.build(card.network, card.options)
    except ValueError as error:
        raise ValueError(f"{card.name}: {error}") from error
    fill(module, given, card.name)
    return module.eval().requires_grad_(False)
