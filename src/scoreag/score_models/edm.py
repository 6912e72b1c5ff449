"""EDM: a network whose input and target have unit variance at every noise level.

Karras et al. (2022).
"""

from scoreag.cards import Card, weights
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import edm
from scoreag.load import load as component


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    network = component("networks", card.network).build(**card.options)
    model = Preconditioned(network, edm(card.sigma_data))
    model.network.load_state_dict(weights(card))
    return model
