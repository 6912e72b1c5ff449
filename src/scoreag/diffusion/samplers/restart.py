"""Restart: Heun's method that goes back up by fresh noise, and down again.  Xu et al. (2023).

The noise of a large jump forgets more of the errors made so far than the same noise in small parts,
and the steps between are those of the ODE, which needs few.
"""

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, State
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import heun
from scoreag.diffusion.samplers._options import check_whole
from scoreag.diffusion.solver import chain_steps, checkpoint_chain, levels_for
from scoreag.diffusion.steering import diffuse


def add_noise(denoise: Denoise, x: State, sigma: Tensor, raised: Tensor, noise: Noise) -> State:
    """From a noise level up to a higher one."""
    spread = (raised**2 - sigma**2).sqrt()
    return diffuse(denoise, x, spread) + spread * noise.normal_like(x)


def draw_levels(
    sigmas: Sequence[float],
    n_restarts: int = 2,
    restart_steps: int = 3,
    s_tmin: float | int = 0.06,
    s_tmax: float | int = 0.3,
) -> list[float]:
    """The noise level from which noise is added, once a restart."""
    _check_options(n_restarts, restart_steps, s_tmin, s_tmax)
    return [sigmas[_place(sigmas, s_tmin, s_tmax)]] * n_restarts if n_restarts else []


def _place(sigmas: Sequence[float], s_tmin: float | int, s_tmax: float | int) -> int:
    """The index of the noise level from which to go up.

    Raises:
        ValueError: there is none.
    """
    below = [i for i, sigma in enumerate(sigmas) if 0 < sigma < min(s_tmax, sigmas[0])]
    if not below:
        raise ValueError(
            f"restart finds no noise level between 0 and s_tmax {s_tmax} to go up from; write more "
            "steps, or a higher s_tmax"
        )
    return min(below, key=lambda i: abs(math.log(sigmas[i] / s_tmin)))


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    n_restarts: int = 2,
    restart_steps: int = 3,
    s_tmin: float | int = 0.06,
    s_tmax: float | int = 0.3,
) -> State:
    """The whole chain; ``2 n_restarts restart_steps`` more denoiser calls than Heun's method.

    Args:
        n_restarts: how often noise is added, K of the paper; 0 leaves Heun's method.
        restart_steps: Heun steps from ``s_tmax`` down to where the noise was added.
        s_tmin, s_tmax: the noise is added at the level nearest to ``s_tmin``, up to ``s_tmax`` or,
            if that is lower, the level of the start.

    Raises:
        ValueError: there is no level from which to go up.
    """
    _check_options(n_restarts, restart_steps, s_tmin, s_tmax)
    levels = levels_for(sigmas, x)
    top = min(float(s_tmax), float(levels[0]))
    place = _place(levels.tolist(), s_tmin, s_tmax) if n_restarts else 0
    descend = partial(chain_steps, heun.step, denoise)
    chain = descend(levels[: place + 1], noise)
    low = float(levels[place])
    for k in range(n_restarts):
        again = noise.fold_in("restart", k)
        grid = karras(restart_steps + 1, sigma_min=low, sigma_max=top)[:-1].to(x.dtype)
        grid[-1] = levels[place]
        up = partial(add_noise, denoise, sigma=levels[place], raised=grid[0], noise=again)
        chain.append(up)
        chain += descend(grid, again)
    return checkpoint_chain([*chain, *descend(levels[place:], noise)], x, wrt)


def _check_options(
    n_restarts: object, restart_steps: object, s_tmin: object, s_tmax: object
) -> None:
    check_whole("restart's n_restarts", n_restarts, 0)
    check_whole("restart's restart_steps", restart_steps, 1)
    for name, level in (("s_tmin", s_tmin), ("s_tmax", s_tmax)):
        number = isinstance(level, float | int) and not isinstance(level, bool)
        if not number or not 0 < float(level) < math.inf:  # type: ignore[arg-type]
            raise ValueError(f"restart's {name} is {level!r}; write a noise level, e.g. 0.3")
    if not float(s_tmin) < float(s_tmax):  # type: ignore[arg-type]
        raise ValueError(
            f"restart goes up from s_tmin {s_tmin} to s_tmax {s_tmax}; write a lower s_tmin"
        )
