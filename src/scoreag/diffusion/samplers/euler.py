"""Euler: one denoiser call a step, first order.  In these coordinates it is DDIM with eta = 0."""

from functools import partial

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.solver import integrate, ode_derivative


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """x' = x + (sigma' - sigma) dx/dsigma"""
    return x + (next_sigma - sigma) * ode_derivative(denoise, x, sigma)


sample = partial(integrate, step)
