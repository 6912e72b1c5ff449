"""DPM-Solver++ (2M): second order with one denoiser call a step.  Lu et al. (2022), algorithm 2.

It is Euler's step, or the ancestral one in the SDE form, with an x0-estimate that is extrapolated
from the last two to the middle of the step in ``lambda = -ln sigma``.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.samplers import ancestral, euler
from scoreag.diffusion.solver import checkpoint_chain, levels_for
from scoreag.diffusion.steering import branches, choose, diffuse


def step(
    denoise: Denoise,
    x_and_prev_x0: State,
    sigma: Sigma,
    next_sigma: Sigma,
    noise: Noise,
    *,
    prev_sigma: Sigma | None,
    sde: bool,
) -> State:
    """From the state with the previous x0-estimate to the next such state.

    ``D' = D + (h / 2h_prev) (D - D_prev)``, ``h`` the step in lambda; the first step and the one to
    sigma = 0, where h is infinite, use D itself.  A steered chain has an estimate of each branch.
    """
    x, *prev_x0s = x_and_prev_x0.unbind(1)
    x0s = [branch(x, sigma) for branch in branches(denoise)]
    ends = [
        _extrapolate(x0, prev_x0, sigma, next_sigma, prev_sigma)
        for x0, prev_x0 in zip(x0s, prev_x0s, strict=True)
    ]
    if not sde:
        x = euler.step(lambda *_: ends[0], x, sigma, next_sigma, noise)
        return torch.stack([x, *x0s], 1)
    means = [ancestral.mean_of_step(end, x, sigma, next_sigma) for end in ends]
    spread = ancestral.noise_added(sigma, next_sigma)
    mean = diffuse(denoise, choose(denoise, means), spread)
    return torch.stack([mean + spread * noise.normal_like(x), *x0s], 1)


def _extrapolate(
    x0: State, prev_x0: State, sigma: Sigma, next_sigma: Sigma, prev_sigma: Sigma | None
) -> State:
    if prev_sigma is None or not next_sigma > 0:
        return x0
    factor = (sigma / next_sigma).log() / (2 * (prev_sigma / sigma).log())
    return x0 + factor * (x0 - prev_x0)


def draw_levels(sigmas: Sequence[float], sde: bool = False) -> list[float]:
    """The noise levels to which noise is added, in order: in the SDE form, those in between."""
    _check_form(sde)
    return list(sigmas[1:-1]) if sde else []


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    sde: bool = False,
) -> State:
    """The whole chain; the previous estimate is part of the state, which makes gradients exact.

    Args:
        sde: the SDE form, which adds fresh noise at each step, instead of the ODE.
    """
    _check_form(sde)
    levels = list(levels_for(sigmas, x))
    steps = [
        partial(
            step,
            denoise,
            sde=sde,
            sigma=sigma,
            next_sigma=next_sigma,
            noise=noise.fold_in("step", i),
            prev_sigma=levels[i - 1] if i else None,
        )
        for i, (sigma, next_sigma) in enumerate(pairwise(levels))
    ]
    start = torch.stack([x, *(x for _ in branches(denoise))], 1)
    return checkpoint_chain(steps, start, wrt)[:, 0]


def _check_form(sde: object) -> None:
    if not isinstance(sde, bool):
        raise ValueError(f"dpmpp_2m's sde is {sde!r}; write true (SDE form) or false (ODE form)")
