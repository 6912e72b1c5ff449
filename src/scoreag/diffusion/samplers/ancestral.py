"""Ancestral sampling: the reverse SDE, one denoiser call a step.  Ho et al. (2020), eq. 6 and 7."""

from functools import partial

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.solver import integrate


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """Draw from p(x' | x, x0 = D(x; sigma)), which is a Gaussian between x and the x0-estimate."""
    ratio = (next_sigma / sigma) ** 2
    x0 = denoise(x, sigma)
    spread = next_sigma * (1 - ratio).sqrt()
    return x0 + ratio * (x - x0) + spread * noise.normal_like(x)


sample = partial(integrate, step)
