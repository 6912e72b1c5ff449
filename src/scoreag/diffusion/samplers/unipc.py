"""UniPC: a multistep predictor and corrector that share one denoiser call a step.

Zhao et al. (2023), algorithms 5 and 6 with ``B(h) = e^h - 1``, for the denoiser.  The call at a
predicted state corrects that state, and is the newest estimate of the next prediction.  A predictor
of order p is so corrected to order p + 1.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, State
from scoreag.diffusion.samplers._options import check_whole
from scoreag.diffusion.solver import checkpoint_chain, levels_for

MAX_ORDER = 3


def step(
    denoise: Denoise,
    states: State,
    sigmas: Tensor,
    index: int,
    predictor: Tensor,
    corrector: Tensor | None,
) -> State:
    """Correct the predicted state by the estimate at it, then predict the next one.

    ``states`` are side by side: the predicted state, the corrected one before it, and the last
    x0-estimates, the newest first.  ``x' = (s'/s) x + (1 - s'/s) (D_0 + sum_i w_i (D_i - D_0))``.
    """
    predicted, before, *estimates = states.unbind(1)
    x0 = denoise(predicted, sigmas[index])
    x = predicted
    if corrector is not None:
        ratio = sigmas[index] / sigmas[index - 1]
        x = _advance(before, estimates[0], [x0, *estimates[1:]], corrector, ratio)
    ratio = sigmas[index + 1] / sigmas[index]
    following = _advance(x, x0, estimates, predictor, ratio)
    return torch.stack([following, x, x0, *estimates[:-1]], 1)


def _advance(x: State, x0: State, others: list[State], weights: Tensor, ratio: Tensor) -> State:
    """The step of the exponential integrator towards a combination of x0-estimates."""
    target = x0
    for weight, other in zip(weights, others, strict=False):
        target = target + weight * (other - x0)
    return ratio * x + (1 - ratio) * target


def combination_weights(times: Tensor, h: float) -> Tensor:
    """The weights of ``D_i - D_0`` for estimates at ``times``, in steps: 0 is here and 1 the end.

    They are exact for polynomials in ``lambda = -ln sigma``: for k = 1, 2, ...
    ``sum_i w_i t_i^k = k! phi_(k+1)(-h) / phi_1(-h)``, where ``phi_1(z) = (e^z - 1) / z`` and
    ``phi_(k+1)(z) = (phi_k(z) - 1 / k!) / z``.
    """
    z, count = -h, len(times)
    phi = [math.expm1(z) / z]
    for k in range(1, count + 1):
        phi.append((phi[-1] - 1 / math.factorial(k)) / z)
    moments = [math.factorial(k) * phi[k] / phi[0] for k in range(1, count + 1)]
    powers = torch.arange(1, count + 1, dtype=torch.float64)
    return torch.linalg.solve(times ** powers[:, None], torch.tensor(moments, dtype=torch.float64))


def _weights(levels: Tensor, start: int, order: int, implicit: bool) -> Tensor:
    """Weights of the step from level ``start``; if ``implicit``, the end's estimate comes first."""
    log_snr = -levels.log()
    h = float(log_snr[start + 1] - log_snr[start])
    earlier = range(start - 1, max(-1, start - order), -1)
    if not math.isfinite(h):  # the last step: D itself
        return torch.zeros(0, dtype=torch.float64)
    times = [1.0] * implicit + [float(log_snr[i] - log_snr[start]) / h for i in earlier]
    return combination_weights(torch.tensor(times, dtype=torch.float64), h)


def sample(
    denoise: Denoise,
    x: State,
    sigmas: Tensor,
    noise: Noise,
    wrt: Sequence[Tensor] = (),
    *,
    order: int = 2,
) -> State:
    """The whole chain.  Earlier estimates are part of the state, and so are its gradients.

    Args:
        order: of the predictor, 1 to 3; the first steps have fewer estimates to combine.  The step
            to sigma = 0 takes the denoiser's estimate.
    """
    check_whole("unipc's order", order, 1, MAX_ORDER)
    levels, exact = levels_for(sigmas, x), sigmas.cpu().double()
    steps = [
        partial(
            step,
            denoise,
            sigmas=levels,
            index=i,
            predictor=_weights(exact, i, order, implicit=False).to(x),
            corrector=_weights(exact, i - 1, order, implicit=True).to(x) if i else None,
        )
        for i in range(len(levels) - 1)
    ]
    return checkpoint_chain(steps, torch.stack([x] * (2 + order), 1), wrt)[:, 0]
