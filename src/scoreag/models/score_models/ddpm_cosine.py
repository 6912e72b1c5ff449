"""DDPM with the cosine schedule of Nichol and Dhariwal (2021); predicts the noise."""

from scoreag.diffusion.parameterizations import (
    Parameterization,
    Preconditioned,
    cosine_alphas_cumprod,
    ddpm,
)
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    check_options(family, dict(card.schedule_kwargs), f"{card.name}: its schedule_kwargs")
    return Preconditioned(build_network(card), family(**card.schedule_kwargs))


def family(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """The same curve, cut into as many steps."""
    return ddpm(cosine_alphas_cumprod(steps), time_scale)
