"""How the gradient of an attack is changed before it guides: its length, its memory, its direction.

Each function here makes another likelihood of one.  The changed field is the gradient of no
function: only the gradient of the returned value has a meaning.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import BatchScalar, Denoise, LogLikelihood, Sigma, State
from scoreag.diffusion.guidance import Interval, requiring_grad
from scoreag.diffusion.likelihoods import batch_dot

Change: TypeAlias = Callable[[BatchScalar, State], State]  # of a value and its gradient


def change_gradient(term: LogLikelihood, change: Change) -> LogLikelihood:
    """``term`` with its gradient replaced by ``change(value, gradient)``, as in ``change``."""

    def log_likelihood(x0: State, sigma: Sigma) -> Float[Tensor, " batch"]:
        with torch.enable_grad():
            leaf = requiring_grad(x0)
            value = term(leaf, sigma)
            (v,) = torch.autograd.grad(value.sum(), leaf, create_graph=True)
        return _InnerProduct.apply(x0, change(value, v))

    return log_likelihood


class _InnerProduct(torch.autograd.Function):
    """``<x0, v>`` for each image, with gradient ``v`` with respect to ``x0`` and none for ``v``."""

    @staticmethod
    def forward(ctx: Any, x0: State, v: State) -> Float[Tensor, " batch"]:
        ctx.save_for_backward(v)
        return (x0 * v).flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " batch"]) -> tuple[State, None]:
        (v,) = ctx.saved_tensors
        return grad.view(-1, *(1,) * (v.ndim - 1)) * v, None


def normalize_gradient(term: LogLikelihood, length: float) -> LogLikelihood:
    """``term`` with its gradient scaled to L2 norm ``length`` for every image."""
    return change_gradient(term, lambda value, v: length * v / _norm_square(v).sqrt())


def polyak_step(term: LogLikelihood, scale: float, best: float = 0.0) -> LogLikelihood:
    """``term`` with the gradient ``scale (best - f) v / |v|^2``, ``f`` its value, ``v`` its own.

    To first order, a step of length 1 along it gives ``f`` the value ``best`` if scale is 1; Polyak
    (1969). Of a log-probability near 0, gap and gradient vanish together, and the step does not:
    ``stop_margin`` is what pauses it.

    Args:
        best: the largest value of ``term``: 0 of a log-probability.
    """

    def change(value: BatchScalar, v: State) -> State:
        gap = (best - value).clamp(min=0).view(-1, *(1,) * (v.ndim - 1))
        return scale * gap * v / _norm_square(v)

    return change_gradient(term, change)


def with_momentum(term: LogLikelihood, decay: float) -> LogLikelihood:
    """``term`` with the gradient ``m <- decay m + v`` over its evaluations in one chain.

    ``v`` is its own gradient. Dong et al. (2018), without their normalization. The returned
    likelihood serves one chain only, and nothing may be differentiated through that chain.
    """
    memory: list[State] = []

    def change(value: BatchScalar, v: State) -> State:
        total = v.detach() if not memory else decay * memory.pop() + v.detach()
        memory.append(total)
        return total

    return change_gradient(term, change)


def _norm_square(v: State) -> Tensor:
    """``|v|^2`` of each image, above 0, shaped to divide the images."""
    return batch_dot(v, v) + torch.finfo(v.dtype).tiny


def remove_radial(gradient: State, x: State, denoised: State) -> State:
    """The part of ``gradient`` that is orthogonal to ``D - x``.

    The score points along ``D - x``; what is orthogonal to it leaves the noise level alone, and
    moves within images that are as likely. DPAC, arXiv 2512.01153.
    """
    radial = denoised - x
    return gradient - batch_dot(gradient, radial) / _norm_square(radial) * radial


def ascend_x0(
    denoise: Denoise,
    term: LogLikelihood,
    steps: int,
    interval: Interval | None = None,
    sigma_data: float = 0.5,
) -> Denoise:
    """``D``, moved by ``steps`` steps ``x0 <- x0 + r^2 grad log p(c | x0)``.

    ``r^2 = sigma^2 sd^2 / (sigma^2 + sd^2)`` is the variance of x0 given x, for independent pixels.
    Each step costs a gradient of the classifier and no call of the denoiser; Ye et al. (2024), TFG,
    mean guidance.

    Args:
        interval: the noise levels at which it acts, both ends included.
    """

    def ascended(x: State, sigma: Sigma) -> State:
        x0 = denoise(x, sigma)
        if interval is not None and not interval[0] <= float(sigma) <= interval[1]:
            return x0
        variance = sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)
        for _ in range(steps):
            with torch.enable_grad():
                leaf = x0.detach().requires_grad_()
                (v,) = torch.autograd.grad(term(leaf, sigma).sum(), leaf)
            x0 = x0 + variance * v
        return x0

    return ascended
