"""EDM: a network whose input and target have unit variance at every noise level.

Karras et al. (2022).
"""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import edm
from scoreag.load import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its table of levels goes before ``sigma_data``."""
    check_options(edm, dict(card.levels), f"{card.name}: the table of levels")
    if card.levels.get("sign", 1) not in (1, -1):
        raise ValueError(f"{card.name}: the sign {card.levels['sign']!r:.80}; expected 1 or -1")
    return Preconditioned(network(card), edm(**{"sigma_data": card.sigma_data, **card.levels}))
