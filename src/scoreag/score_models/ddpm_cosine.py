"""DDPM with the cosine schedule of Nichol and Dhariwal (2021); predicts the noise."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import cosine_alphas, ddpm


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(network(card), ddpm(cosine_alphas()))
