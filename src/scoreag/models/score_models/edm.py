"""EDM: a network whose input and target have unit variance at every noise level.

Karras et al. (2022).
"""

from scoreag.diffusion.parameterizations import Preconditioned, edm
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its table of levels goes before ``sigma_data``."""
    check_options(edm, dict(card.schedule_kwargs), f"{card.name}: its schedule_kwargs")
    if card.schedule_kwargs.get("sign", 1) not in (1, -1):
        raise ValueError(
            f"{card.name}: the sign {card.schedule_kwargs['sign']!r:.80}; expected 1 or -1"
        )
    return Preconditioned(
        build_network(card), edm(**{"sigma_data": card.sigma_data, **card.schedule_kwargs})
    )
