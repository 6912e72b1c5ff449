"""DDPM: a network that predicts the noise, told one of 1000 steps; Ho et al. (2020)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Family, Preconditioned
from scoreag.core.families import ddpm, linear_alphas
from scoreag.load import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its betas are linear from 1e-4 to 0.02."""
    check_options(family, dict(card.levels), f"{card.name}: the table of levels")
    return Preconditioned(network(card), family(**card.levels))


def family(steps: int = 1000, pace: float = 1.0) -> Family:
    """Of more steps the betas are smaller in proportion, as in Nichol and Dhariwal (2021)."""
    return ddpm(linear_alphas(steps, 0.1 / steps, 20 / steps), pace)
