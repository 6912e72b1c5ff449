"""iPNDM: Adams-Bashforth on the probability-flow ODE, one denoiser call a step, up to order 4.

Zhang and Chen (2023), section 3; here the steps may have any length, as in their rho-DEIS.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, State
from scoreag.diffusion.samplers._options import check_whole
from scoreag.diffusion.solver import checkpoint_chain, levels_for, ode_derivative

MAX_ORDER = 4


def step(
    denoise: Denoise, x_and_slopes: State, sigmas: Tensor, index: int, weights: Tensor
) -> State:
    """From the state and the last slopes, side by side, to the next such stack.

    ``x' = x + sum_j w_j d_j``, ``d_0`` the slope here and ``d_j`` that of j steps ago.
    """
    x, *earlier = x_and_slopes.unbind(1)
    slopes = [ode_derivative(denoise, x, sigmas[index]), *earlier]
    moved = torch.stack([w * d for w, d in zip(weights, slopes, strict=False)]).sum(0)
    return torch.stack([x + moved, *slopes[: len(earlier)]], 1)


def adams_bashforth_weights(sigmas: Tensor, index: int, order: int) -> Tensor:
    """The weights of the last slopes, the newest first.

    They integrate polynomials of a degree below their number exactly, from ``sigmas[index]`` (where
    ``t`` is 0) to the next level (where it is 1): ``sum_j w_j t_j^k = step / (k + 1)``.
    """
    levels, count = sigmas.cpu().double(), min(order, index + 1)
    here, width = levels[index], levels[index + 1] - levels[index]
    times = (levels[index - count + 1 : index + 1].flip(0) - here) / width
    powers = torch.arange(count, dtype=torch.float64, device=levels.device)
    return width * torch.linalg.solve(times ** powers[:, None], 1 / (powers + 1))


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    order: int = 3,
) -> State:
    """The whole chain.  The last slopes are part of the state, and so are its gradients.

    Args:
        order: how many slopes a step combines, 1 (Euler) to 4.  The first steps have fewer, which
            bounds the order on ever finer grids by 2.
    """
    check_whole("ipndm's order", order, 1, MAX_ORDER)
    levels = levels_for(sigmas, x)
    steps = [
        partial(
            step,
            denoise,
            sigmas=levels,
            index=i,
            weights=adams_bashforth_weights(sigmas, i, order).to(x),
        )
        for i in range(len(levels) - 1)
    ]
    return checkpoint_chain(steps, torch.stack([x] * order, 1), wrt)[:, 0]
