"""Flow matching: a network that predicts noise minus image; Lipman et al. (2023)."""

from scoreag.diffusion.parameterizations import Preconditioned, flow
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; it is told ``steps`` times the share of noise."""
    check_options(flow, dict(card.schedule_kwargs), f"{card.name}: its schedule_kwargs")
    return Preconditioned(build_network(card), flow(**card.schedule_kwargs))
