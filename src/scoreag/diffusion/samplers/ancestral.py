"""Ancestral sampling: the reverse SDE, one denoiser call a step.  Ho et al. (2020), eq. 6 and 7."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.samplers._options import check_whole
from scoreag.diffusion.samplers.restart import add_noise
from scoreag.diffusion.solver import checkpoint_chain, levels_for
from scoreag.diffusion.steering import diffuse, drift


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """Draw from p(x' | x, x0 = D(x; sigma)), which is a Gaussian between x and the x0-estimate."""
    mean = drift(denoise, partial(move, sigma=sigma, next_sigma=next_sigma), x)
    spread = noise_added(sigma, next_sigma)
    return diffuse(denoise, mean, spread) + spread * noise.normal_like(x)


def move(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma) -> State:
    """The mean of the step."""
    return mean_of_step(denoise(x, sigma), x, sigma, next_sigma)


def mean_of_step(x0: State, x: State, sigma: Sigma, next_sigma: Sigma) -> State:
    """``x0 + (sigma' / sigma)^2 (x - x0)``"""
    return x0 + (next_sigma / sigma) ** 2 * (x - x0)


def noise_added(sigma: Sigma, next_sigma: Sigma) -> Tensor:
    """The deviation of the step's noise."""
    return next_sigma * (1 - (next_sigma / sigma) ** 2).sqrt()


def draw_levels(sigmas: Sequence[float], recurrence: int = 1) -> list[float]:
    """The noise levels to which noise is added, in order: all between the first and the last."""
    check_whole("ancestral's recurrence", recurrence, 1)
    return [level for level in sigmas[1:-1] for _ in range(recurrence)]


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    recurrence: int = 1,
) -> State:
    """The whole chain.

    Args:
        recurrence: how often each step but the last is taken, with fresh noise up in between; each
            costs a call. Guidance then meets every noise level several times; Lugmayr et al.
            (2022), "time travel" in TFG.
    """
    check_whole("ancestral's recurrence", recurrence, 1)
    chain = []
    for i, (sigma, lower) in enumerate(pairwise(levels_for(sigmas, x))):
        source = noise.fold_in("step", i)
        down = partial(step, denoise, sigma=sigma, next_sigma=lower)
        chain.append(partial(down, noise=source))
        for k in range(1, recurrence if lower else 1):
            again = source.fold_in("recurrence", k)
            up = partial(add_noise, denoise, sigma=lower, raised=sigma)
            chain.append(partial(up, noise=again.fold_in("up")))
            chain.append(partial(down, noise=again))
    return checkpoint_chain(chain, x, wrt)
