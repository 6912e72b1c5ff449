"""Heun: two denoiser calls a step, second order.  Karras et al. (2022), algorithm 1."""

from functools import partial

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.solver import integrate, ode_derivative
from scoreag.diffusion.steering import drift


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """An Euler step, then the average of the slopes at its two ends."""
    return drift(denoise, partial(move, sigma=sigma, next_sigma=next_sigma), x)


def move(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma) -> State:
    """The step by one denoiser."""
    d = ode_derivative(denoise, x, sigma)
    euler = x + (next_sigma - sigma) * d
    if next_sigma == 0:  # the slope is 0/0 there
        return euler
    return x + (next_sigma - sigma) * (d + ode_derivative(denoise, euler, next_sigma)) / 2


sample = partial(integrate, step)
