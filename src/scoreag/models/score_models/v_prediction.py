"""DDPM with a network that predicts ``v = a n - b x0``; Salimans and Ho (2022), section 4."""

from scoreag.diffusion.parameterizations import Preconditioned, linear_alphas_cumprod, v_prediction
from scoreag.models.model_cards import Card, build_network


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its levels are those of DDPM."""
    return Preconditioned(build_network(card), v_prediction(linear_alphas_cumprod()))
