"""Continuous VP: a network that predicts the noise, told 999 t; Song et al. (2021)."""

from scoreag.diffusion.parameterizations import Preconditioned, vp
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; ``beta(t) = 0.1 + 19.9 t``."""
    return Preconditioned(build_network(card), vp())
