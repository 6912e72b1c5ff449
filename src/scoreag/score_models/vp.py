"""Continuous VP: a network that predicts the noise, told 999 t; Song et al. (2021)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import vp


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; ``beta(t) = 0.1 + 19.9 t``."""
    return Preconditioned(network(card), vp())
