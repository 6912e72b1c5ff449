"""A sampler that follows each family's own ODE on its own noise levels: EDM's, VP's or VE's.

With ``x = z / s(t)`` and ``sigma(t)``, Karras et al. (2022), eq. 4, is

    dz/dt = (s'/s + sigma'/sigma) z - (sigma'/sigma) s D(z / s; sigma),

the same curve in three coordinates: a step of a solver is another one in each of them.  Given as
the setting ``sampler="paths.own"``; the levels that come with it only say the first and how many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.noise_schedules import karras, vp_beta, vp_time, vp_uniform
from scoreag.diffusion.parameterizations import geometric_sigmas
from scoreag.diffusion.solver import integrate

SIGMA_MIN = 0.002  # the last level before 0, as EDM has it


@dataclass(frozen=True)
class Path:
    """What a family makes of a noise level: t, s, ``sigma'/sigma`` and ``s'/s``; and its grid."""

    time: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], Tensor]
    growth: Callable[[Tensor], Tensor]
    shrinkage: Callable[[Tensor], Tensor]
    grid: Callable[[int, float], Tensor]


def _geometric(steps: int, sigma_max: float) -> Tensor:
    levels = geometric_sigmas(steps, SIGMA_MIN, sigma_max).flip(0)
    return torch.cat([levels, levels.new_zeros(1)])


def _uniform(steps: int, sigma_max: float) -> Tensor:
    end = float(vp_time(torch.tensor(SIGMA_MIN, dtype=torch.float64)))
    return vp_uniform(steps, sigma_max, end)


PATHS = {
    "edm": Path(
        time=lambda sigma: sigma,
        scale=torch.ones_like,
        growth=lambda sigma: 1 / sigma,
        shrinkage=torch.zeros_like,
        grid=lambda steps, sigma_max: karras(steps, SIGMA_MIN, sigma_max),
    ),
    "vp": Path(  # Song et al. (2021): t in [0, 1], beta linear
        time=vp_time,
        scale=lambda sigma: (1 + sigma**2).rsqrt(),
        growth=lambda sigma: vp_beta(sigma) * (1 + sigma**2) / (2 * sigma**2),
        shrinkage=lambda sigma: -vp_beta(sigma) / 2,
        grid=_uniform,
    ),
    "ve": Path(  # Song et al. (2021): sigma is geometric in t, which is counted in powers of e
        time=torch.log,
        scale=torch.ones_like,
        growth=torch.ones_like,
        shrinkage=torch.zeros_like,
        grid=_geometric,
    ),
}


def step(
    path: Path,
    order: int,
    denoise: Denoise,
    x: State,
    sigma: Sigma,
    next_sigma: Sigma,
    noise: Noise,
) -> State:
    """Euler's step in t, or Heun's; the last one, to no noise, gives the estimate itself."""
    if next_sigma == 0:
        return denoise(x, sigma)

    def slope(z: State, level: Sigma) -> State:
        s, growth = path.scale(level), path.growth(level)
        return (path.shrinkage(level) + growth) * z - growth * s * denoise(z / s, level)

    length = path.time(next_sigma) - path.time(sigma)
    z = path.scale(sigma) * x
    first = slope(z, sigma)
    end = z + length * first
    if order == 2:
        end = z + length * (first + slope(end, next_sigma)) / 2
    return end / path.scale(next_sigma)


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    path: str = "edm",
    order: int = 2,
    levels: str = "",
) -> State:
    """From ``sigmas[0]``, in as many steps, on the path's own grid, or that of another one."""
    own = PATHS[levels or path].grid(len(sigmas) - 1, float(sigmas[0]))
    return integrate(partial(step, PATHS[path], order), denoise, x, own, noise, wrt)
