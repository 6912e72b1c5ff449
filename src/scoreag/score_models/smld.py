"""NCSN++ as first trained: as NCSN, told the number of one of 1000 levels; Song et al. (2021)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import smld


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its levels go from 0.02 to 100."""
    return Preconditioned(network(card), smld())
