"""A network that predicts the score of images in [0, 1]; Song et al. (2021), as in diffusers."""

from scoreag.diffusion.parameterizations import Preconditioned, unit_score
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(build_network(card), unit_score())
