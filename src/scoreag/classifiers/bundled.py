"""The classifier of a card: its network, with its weights."""

from torch import nn

from scoreag.cards import Card, network


def load(card: Card) -> nn.Module:
    """The network as it was trained: it wants normalised images, and returns logits."""
    return network(card).eval().requires_grad_(False)
