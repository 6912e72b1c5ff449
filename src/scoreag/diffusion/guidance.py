"""Guidance: change a denoiser so that samples meet a condition.

    D_c(x; sigma) = D(x; sigma) + sigma^2 grad_x log p(c | x0_hat(x; sigma))

``guide`` is this equation, ``likelihoods`` has ``log p(c | x0)``, and ``solver.checkpoint_chain``
gives the exact gradient of a whole guided chain.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Denoise, LogLikelihood, Sigma, State
from scoreag.diffusion.compiled import without_compiled
from scoreag.diffusion.noise_schedules import vp_beta, vp_time

X0Coefficients: TypeAlias = Callable[[Sigma], tuple[Tensor, Tensor]]  # (a, b): x0_hat = a x + b D
VJP: TypeAlias = Callable[
    [Denoise, LogLikelihood, X0Coefficients, State, Sigma, float], tuple[State, State]
]
Interval: TypeAlias = tuple[float, float]  # lowest and highest sigma

SIGMA_DATA = 0.5  # standard deviation of a pixel of natural images, in units of the state


def guide(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    jacobian: str = "exact",
    x0_estimate: str = "denoiser",
    interval: Interval | None = None,
    sigma_data: float = SIGMA_DATA,
    project: Callable[[State, State, State], State] | None = None,
) -> Denoise:
    """The denoiser of ``p(x0 | c)``, given that of ``p(x0)`` and ``log p(c | x0)``.

    Bayes' rule adds ``grad_x log p(c | x)`` to the score, and a score is ``(D - x) / sigma^2``. The
    result is again a denoiser: every sampler accepts it, and it can be guided again.

    Args:
        jacobian: how the gradient at ``x0_hat`` reaches ``x``, a name in ``JACOBIANS``.
        x0_estimate: what ``x0_hat`` is, a name in ``X0_ESTIMATES``.
        interval: the noise levels at which guidance acts, both ends included; elsewhere
            ``D_c = D``, which needs no gradient.
        sigma_data: standard deviation of a pixel, which the "identity" Jacobian uses.
        project: changes the gradient, given ``x`` and ``D``.
    """
    vjp, coefficients = JACOBIANS[jacobian], X0_ESTIMATES[x0_estimate]

    def guided(x: State, sigma: Sigma) -> State:
        if interval is not None and not interval[0] <= float(sigma) <= interval[1]:
            return denoise(x, sigma)
        denoised, gradient = vjp(denoise, log_likelihood, coefficients, x, sigma, sigma_data)
        if project is not None:
            gradient = project(gradient, x, denoised)
        return denoised + sigma**2 * gradient

    return guided


def requiring_grad(x: State) -> State:
    """``x`` if it requires a gradient, else a copy that does."""
    return x if x.requires_grad else x.detach().requires_grad_()


def exact_vjp(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    coefficients: X0Coefficients,
    x: State,
    sigma: Sigma,
    sigma_data: float,
) -> tuple[State, State]:
    """``D`` and ``(a + b dD/dx)^T v``, ``v`` the gradient at ``x0_hat``: autograd through ``D``."""
    differentiable = torch.is_grad_enabled()  # as in an attack on the whole chain
    with torch.enable_grad(), without_compiled(differentiable):
        leaf = requiring_grad(x)
        denoised = denoise(leaf, sigma)
        a, b = coefficients(sigma)
        value = log_likelihood(a * leaf + b * denoised, sigma).sum()
        retain = differentiable or leaf is x  # the caller may use the graph again
        (score,) = torch.autograd.grad(
            value, leaf, retain_graph=retain, create_graph=differentiable
        )
    return (denoised if differentiable else denoised.detach()), score


def identity_vjp(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    coefficients: X0Coefficients,
    x: State,
    sigma: Sigma,
    sigma_data: float,
) -> tuple[State, State]:
    """As ``exact_vjp`` with ``dD/dx = sd^2 / (sigma^2 + sd^2)`` times the identity.

    That is the Jacobian for independent pixels of variance ``sd^2``; one forward pass a call. He et
    al. (2024).
    """
    denoised, v, a, b = _likelihood_gradient(denoise, log_likelihood, coefficients, x, sigma)
    return denoised, (a + b * sigma_data**2 / (sigma**2 + sigma_data**2)) * v


def finite_difference_vjp(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    coefficients: X0Coefficients,
    x: State,
    sigma: Sigma,
    sigma_data: float,
) -> tuple[State, State]:
    """As ``exact_vjp`` with ``J^T v = J v``, one forward difference along ``v``, without a graph.

    The Jacobian of an MMSE denoiser is a covariance over ``sigma^2``, and so symmetric. The root
    mean square of the step over pixels is ``sigma / 100``.
    """
    denoised, v, a, b = _likelihood_gradient(denoise, log_likelihood, coefficients, x, sigma)
    size = v.flatten(1).square().mean(1).add(torch.finfo(v.dtype).tiny).sqrt()
    step = 0.01 * sigma / size.view(-1, *(1,) * (x.ndim - 1))
    return denoised, a * v + b * (denoise(x + step * v, sigma) - denoised) / step


def _likelihood_gradient(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    coefficients: X0Coefficients,
    x: State,
    sigma: Sigma,
) -> tuple[State, State, Tensor, Tensor]:
    """``D``, the gradient of ``log p(c | x0)`` at ``x0_hat = a x + b D``, ``a`` and ``b``."""
    denoised = denoise(x, sigma)
    a, b = coefficients(sigma)
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = requiring_grad(a * x + b * denoised)
        value = log_likelihood(leaf, sigma).sum()
        (v,) = torch.autograd.grad(value, leaf, create_graph=differentiable)
    return denoised, v, a, b


def _euler_step(score_weight: float, sigma: Sigma) -> tuple[Tensor, Tensor]:
    """One Euler step to time 0, where ``x_vp = x / sqrt(1 + sigma^2)`` and beta is linear.

    ``x_vp + t beta (x_vp / 2 + score_weight score_vp)``; Song et al. (2021).
    """
    t = vp_time(sigma)
    drift = t * vp_beta(sigma)
    a = (1 + sigma**2).rsqrt()
    b = score_weight * drift / (a * sigma**2)  # the score is (D - x) / (a sigma^2)
    return a * (1 + drift / 2) - b, b


JACOBIANS: dict[str, VJP] = {
    "exact": exact_vjp,
    "identity": identity_vjp,
    "finite_difference": finite_difference_vjp,
}
X0_ESTIMATES: dict[str, X0Coefficients] = {
    "denoiser": lambda sigma: (torch.zeros_like(sigma), torch.ones_like(sigma)),  # x0_hat = D
    "ode_euler": partial(_euler_step, 0.5),  # of the VP probability-flow ODE
    "sde_euler": partial(_euler_step, 1.0),  # of the VP reverse SDE, without its noise
}


def sum_log_likelihoods(*terms: LogLikelihood) -> LogLikelihood:
    """The log-likelihood of independent conditions."""
    return lambda x0, sigma: torch.stack([term(x0, sigma) for term in terms]).sum(0)


def restrict_to_interval(interval: Interval | None, term: LogLikelihood) -> LogLikelihood:
    """``term`` at the noise levels of ``interval``, both ends included, and 0 elsewhere."""
    if interval is None:
        return term
    low, high = interval

    def log_likelihood(x0: State, sigma: Sigma) -> Float[Tensor, " batch"]:
        return term(x0, sigma) if low <= float(sigma) <= high else x0.flatten(1).sum(1) * 0

    return log_likelihood


def sum_conditions(denoise: Denoise, *conditions: Callable[[Denoise], Denoise]) -> Denoise:
    """``denoise`` plus the correction of each condition, which guides it on its own.

    All share one evaluation of ``denoise`` at x, and take gradients through its graph.
    """

    def guided(x: State, sigma: Sigma) -> State:
        with torch.enable_grad(), without_compiled(True):  # differentiated by each condition
            leaf = requiring_grad(x)
            plain = denoise(leaf, sigma)

        def cached(state: State, level: Sigma) -> State:
            return plain if state is leaf else denoise(state, level)

        changes = [condition(cached)(leaf, sigma) - plain for condition in conditions]
        return plain + torch.stack(changes).sum(0)

    return guided
