"""NCSN: a network that predicts minus the noise; Song and Ermon (2019)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import ncsn


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(network(card), ncsn())
