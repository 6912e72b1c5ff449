"""EDM: a network whose input and target have unit variance at every noise level.

Karras et al. (2022).
"""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import edm


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    return Preconditioned(network(card), edm(card.sigma_data))
