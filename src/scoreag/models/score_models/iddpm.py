"""iDDPM as Karras et al. (2022) have it: the noise, at the nearest of 1000 cosine levels."""

from scoreag.diffusion.parameterizations import Preconditioned, iddpm
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; it is told the nearest level, as released."""
    return Preconditioned(build_network(card), iddpm())
