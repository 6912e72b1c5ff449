"""DDPM: a network that predicts the noise, told one of 1000 steps; Ho et al. (2020)."""

from scoreag.cards import Card, network
from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import ddpm, linear_alphas


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights; its betas are linear from 1e-4 to 0.02."""
    return Preconditioned(network(card), ddpm(linear_alphas()))
