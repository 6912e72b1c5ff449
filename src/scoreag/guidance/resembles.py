"""The x0-estimate looks like a given image: four readings of how far an estimate can be trusted."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.guide import SIGMA_DATA
from scoreag.core.types import Denoise, LogLikelihood, PerImage, Sigma, State

Variance: TypeAlias = Callable[..., Tensor]  # (sigma, precision, deviation) -> v(sigma)

LARGEST_SHARE = 0.29  # of the variance of images lies along one direction (CIFAR-10: 222 of 768)


def resembles(
    reference: State,
    precision: float,
    variance: str = "damped",
    deviation: float = SIGMA_DATA,
) -> LogLikelihood:
    """``log N(reference; x0_hat, v(sigma))`` up to a constant: ``-|x0_hat - reference|^2 / 2v``.

    Args:
        reference: the image to stay close to, in the units of the state, [-1, 1].
        precision: s_x of the paper; 0 forgets the reference.
        variance: the name of v(sigma) in ``VARIANCES``.
        deviation: sd, that of a pixel of images, in the units of the state.
    """

    def log_likelihood(x0: State, sigma: Sigma) -> PerImage:
        known = (sigma, precision, deviation)
        weight = 1 / VARIANCES[variance](*known) if precision else 0 * sigma
        return -0.5 * weight * (x0 - reference).flatten(1).square().sum(1)

    return log_likelihood


def constant(sigma: Tensor, precision: float, deviation: float = SIGMA_DATA) -> Tensor:
    """``1 / s_x``: as if the estimate were certain at every level."""
    return torch.ones_like(sigma) / precision


def widened(sigma: Tensor, precision: float, deviation: float = SIGMA_DATA) -> Tensor:
    """``1 / s_x + r^2``, where ``r^2 = sigma^2 sd^2 / (sigma^2 + sd^2)``; Song et al. (2023)."""
    return 1 / precision + sigma**2 * deviation**2 / (sigma**2 + deviation**2)


def damped(sigma: Tensor, precision: float, deviation: float = SIGMA_DATA) -> Tensor:
    """``(1 / s_x + r^2) (1 + sigma^2 / sd^2)``: pulls with a gain below 1 at every level.

    The gain of a guided denoiser is ``sigma^2 J / v`` along a direction in which ``dD/dx`` is J;
    here it is ``J r^2 / (r^2 + 1/s_x)``, and J is at most 1.
    """
    return widened(sigma, precision, deviation) * (1 + sigma**2 / deviation**2)


def posterior(denoise: Denoise, reference: State, precision: float, solves: int = 3) -> Denoise:
    """The denoiser given ``reference = x0 + N(0, 1/s_x)``, with the estimate's own covariance.

        D_c = D + sigma^2 J^T (I / s_x + sigma^2 J)^-1 (reference - D),  J = dD/dx,

    exact where x0 is Gaussian.  Rozet et al. (2024).  The system is solved by conjugate gradients,
    each step of which is one product with J, taken as symmetric.

    Args:
        solves: steps of conjugate gradients; each finds one more distinct variance of x0.
    """

    def guided(x: State, sigma: Sigma) -> State:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            denoised = denoise(leaf, sigma)

            def through(v: State) -> State:
                return torch.autograd.grad(
                    denoised, leaf, v, retain_graph=True, create_graph=differentiable
                )[0]

            residual = reference - denoised
            residual = residual if differentiable else residual.detach()
            solved = _solve(lambda v: v / precision + sigma**2 * through(v), residual, solves)
            shift = sigma**2 * through(solved)
        return denoised + shift if differentiable else denoised.detach() + shift.detach()

    return guided if precision else denoise


def stable_below(
    variance: str,
    precision: float,
    sigmas: Float[Tensor, " levels"],
    pixels: int,
    deviation: float = SIGMA_DATA,
) -> float:
    """The level of ``sigmas`` below which an Euler step does not push errors up.

    In a direction of variance L the denoiser is ``J x``, ``J = L / (L + sigma^2)``, and one step
    to ``sigma' = q sigma`` multiplies an error by ``q + (1 - q) J (1 - gain)``.  L is the largest
    that images have, which is where a pull that is too strong first explodes.
    """
    largest = LARGEST_SHARE * deviation**2 * pixels
    stable = 0.0
    for sigma, lower in reversed(list(pairwise(sigmas.double()))):
        jacobian = largest / (largest + sigma**2)
        gain = sigma**2 * jacobian / VARIANCES[variance](sigma, precision, deviation)
        ratio = lower / sigma
        if abs(ratio + (1 - ratio) * jacobian * (1 - gain)) > 1:
            break
        stable = float(sigma)
    return stable


def _solve(product: Callable[[State], State], target: State, steps: int) -> State:
    """``product^-1 target`` for each image by conjugate gradients, from zero."""
    solution, residual, direction = torch.zeros_like(target), target, target
    square = _dot(residual, residual)
    tiny = torch.finfo(target.dtype).tiny
    for _ in range(steps):
        image = product(direction)
        length = square / (_dot(direction, image) + tiny)
        solution, residual = solution + length * direction, residual - length * image
        square, last = _dot(residual, residual), square
        direction = residual + square / (last + tiny) * direction
    return solution


def _dot(a: State, b: State) -> Tensor:
    return (a * b).flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))


VARIANCES: dict[str, Variance] = {"constant": constant, "widened": widened, "damped": damped}
EXACT = "exact"  # the fourth reading is no function of sigma alone: see ``posterior``
