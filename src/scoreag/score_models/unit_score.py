"""A network that predicts the score of images in [0, 1]; Song et al. (2021), as in diffusers."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import unit_score


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(network(card), unit_score())
