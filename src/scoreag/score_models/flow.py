"""Flow matching: a network that predicts noise minus image; Lipman et al. (2023)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import flow
from scoreag.load import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; it is told ``steps`` times the share of noise."""
    check_options(flow, dict(card.levels), f"{card.name}: the table of levels")
    return Preconditioned(network(card), flow(**card.levels))
