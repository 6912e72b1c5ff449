"""Euler-Maruyama on the VP reverse SDE, the slow reference.  Song et al. (2021), eq. 6 and 11.

One denoiser call a step; hundreds of steps are usual.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.noise_schedules import vp_beta, vp_time, vp_uniform
from scoreag.diffusion.solver import integrate
from scoreag.diffusion.steering import diffuse, drift

noise_schedule = vp_uniform  # the default noise levels of this method, instead of Karras'


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """``x' = x + (x/2 + score) beta dt + sqrt(beta dt) n``, all in VP coordinates.

    There ``x_vp = a x`` and ``score = a (D - x) / (1 - a^2)`` with ``a^2 = 1 / (1 + sigma^2)``.
    The last step, to sigma = 0, adds no noise.
    """
    moved = drift(denoise, partial(move, sigma=sigma, next_sigma=next_sigma), x)
    if next_sigma == 0:
        return moved
    spread = (_span(sigma, next_sigma) * (1 + next_sigma**2)).sqrt()
    return diffuse(denoise, moved, spread) + spread * noise.normal_like(x)


def move(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma) -> State:
    """The step without its noise."""
    slope = x / 2 + (denoise(x, sigma) - x) * (1 + sigma**2) / sigma**2
    scale = ((1 + next_sigma**2) / (1 + sigma**2)).sqrt()
    return (x + _span(sigma, next_sigma) * slope) * scale


def _span(sigma: Sigma, next_sigma: Sigma) -> Tensor:
    """``beta dt`` of the step."""
    return vp_beta(sigma) * (vp_time(sigma) - vp_time(next_sigma))


def draw_levels(sigmas: Sequence[float]) -> list[float]:
    """The noise levels to which noise is added, in order: all between the first and the last."""
    return list(sigmas[1:-1])


sample = partial(integrate, step)
