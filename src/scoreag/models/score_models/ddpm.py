"""DDPM: a network that predicts the noise, told one of 1000 steps; Ho et al. (2020)."""

from scoreag.diffusion.parameterizations import (
    Parameterization,
    Preconditioned,
    ddpm,
    linear_alphas_cumprod,
)
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its betas are linear from 1e-4 to 0.02."""
    check_options(family, dict(card.schedule_kwargs), f"{card.name}: its schedule_kwargs")
    return Preconditioned(build_network(card), family(**card.schedule_kwargs))


def family(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """Of more steps the betas are smaller in proportion, as in Nichol and Dhariwal (2021)."""
    return ddpm(linear_alphas_cumprod(steps, 0.1 / steps, 20 / steps), time_scale)
