"""NCSN: a network that predicts minus the noise; Song and Ermon (2019)."""

from scoreag.diffusion.parameterizations import Preconditioned, ncsn
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(build_network(card), ncsn())
