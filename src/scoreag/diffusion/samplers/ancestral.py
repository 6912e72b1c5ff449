"""Ancestral sampling: the reverse SDE, one denoiser call a step.  Ho et al. (2020), eq. 6 and 7."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, Sigma, State
from scoreag.diffusion.samplers._options import check_whole
from scoreag.diffusion.samplers.restart import add_noise
from scoreag.diffusion.solver import checkpoint_chain


def step(denoise: Denoise, x: State, sigma: Sigma, next_sigma: Sigma, noise: Noise) -> State:
    """Draw from p(x' | x, x0 = D(x; sigma)), which is a Gaussian between x and the x0-estimate."""
    ratio = (next_sigma / sigma) ** 2
    x0 = denoise(x, sigma)
    spread = next_sigma * (1 - ratio).sqrt()
    return x0 + ratio * (x - x0) + spread * noise.normal_like(x)


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
    for i, (sigma, lower) in enumerate(pairwise(sigmas.to(x))):
        source = noise.fold_in("step", i)
        down = partial(step, denoise, sigma=sigma, next_sigma=lower)
        chain.append(partial(down, noise=source))
        for k in range(1, recurrence if lower else 1):
            again = source.fold_in("recurrence", k)
            chain.append(partial(add_noise, sigma=lower, raised=sigma, noise=again.fold_in("up")))
            chain.append(partial(down, noise=again))
    return checkpoint_chain(chain, x, wrt)
