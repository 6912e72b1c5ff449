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
from scoreag.diffusion.solver import Step, checkpoint_chain


def step(
    denoise: Denoise,
    x_and_prev_x0: State,
    sigma: Sigma,
    next_sigma: Sigma,
    noise: Noise,
    *,
    prev_sigma: Sigma | None,
    base_step: Step,
) -> State:
    """From the pair of the state and the previous x0-estimate to the next such pair.

    ``D' = D + (h / 2h_prev) (D - D_prev)``, ``h`` the step in lambda; the first step and the one to
    sigma = 0, where h is infinite, use D itself.
    """
    x, prev_x0 = x_and_prev_x0.unbind(1)
    x0 = extrapolated = denoise(x, sigma)
    if prev_sigma is not None and next_sigma > 0:
        factor = (sigma / next_sigma).log() / (2 * (prev_sigma / sigma).log())
        extrapolated = x0 + factor * (x0 - prev_x0)
    return torch.stack([base_step(lambda *_: extrapolated, x, sigma, next_sigma, noise), x0], 1)


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
    if not isinstance(sde, bool):
        raise ValueError(f"dpmpp_2m's sde is {sde!r}; write true (SDE form) or false (ODE form)")
    levels = list(sigmas.to(x))
    choose = partial(step, denoise, base_step=ancestral.step if sde else euler.step)
    steps = [
        partial(
            choose,
            sigma=sigma,
            next_sigma=next_sigma,
            noise=noise.fold_in("step", i),
            prev_sigma=levels[i - 1] if i else None,
        )
        for i, (sigma, next_sigma) in enumerate(pairwise(levels))
    ]
    return checkpoint_chain(steps, torch.stack([x, x], 1), wrt)[:, 0]
