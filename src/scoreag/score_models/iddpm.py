"""iDDPM as Karras et al. (2022) have it: the noise, at the nearest of 1000 cosine levels."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import iddpm


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; it is told the nearest level, as released."""
    return Preconditioned(network(card), iddpm())
