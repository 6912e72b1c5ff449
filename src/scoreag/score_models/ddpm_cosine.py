"""DDPM with the cosine schedule of Nichol and Dhariwal (2021); predicts the noise."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Family, Preconditioned
from scoreag.core.families import cosine_alphas, ddpm
from scoreag.load import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    check_options(family, dict(card.levels), f"{card.name}: the table of levels")
    return Preconditioned(network(card), family(**card.levels))


def family(steps: int = 1000, pace: float = 1.0) -> Family:
    """The same curve, cut into as many steps."""
    return ddpm(cosine_alphas(steps), pace)
