"""DDPM with a network that predicts ``v = a n - b x0``; Salimans and Ho (2022), section 4."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import linear_alphas, v_prediction


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its levels are those of DDPM."""
    return Preconditioned(network(card), v_prediction(linear_alphas()))
