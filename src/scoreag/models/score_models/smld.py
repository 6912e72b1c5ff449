"""NCSN++ as first trained: as NCSN, told the number of one of 1000 levels; Song et al. (2021)."""

from scoreag.diffusion.parameterizations import Preconditioned, smld
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its levels go from 0.02 to 100."""
    return Preconditioned(build_network(card), smld())
