"""Guidance: pull a denoiser towards states whose x0-estimate makes a condition likely."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Denoise, LogLikelihood, Sigma, State
from scoreag.diffusion.noise_schedules import vp_beta, vp_time

X0Estimate: TypeAlias = Callable[[Sigma], tuple[Tensor, Tensor]]  # (a, b): x0_hat = a x + b D
VJP: TypeAlias = Callable[
    [Denoise, LogLikelihood, X0Estimate, State, Sigma, float], tuple[State, State]
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
) -> Denoise:
    """The denoiser of ``p(x0 | c)``, given that of ``p(x0)`` and ``log p(c | x0)``.

    Bayes' rule adds ``grad_x log p(c | x)`` to the score, and a score is ``(D - x) / sigma^2``, so

        D_c(x; sigma) = D(x; sigma) + sigma^2 grad_x log p(c | x0_hat(x; sigma)).

    The result is again a denoiser: every sampler takes it, and it can be guided once more.

    Args:
        jacobian: how the gradient at ``x0_hat`` reaches ``x``, a name in ``JACOBIANS``.
        x0_estimate: what ``x0_hat`` is, a name in ``X0_ESTIMATES``.
        interval: the noise levels at which guidance acts, both ends included; elsewhere
            ``D_c = D``, at the cost of one forward pass.
        sigma_data: standard deviation of a pixel, which "identity" takes as known.
    """
    vjp, x0_hat = JACOBIANS[jacobian], X0_ESTIMATES[x0_estimate]

    def guided(x: State, sigma: Sigma) -> State:
        if interval is not None and not interval[0] <= float(sigma) <= interval[1]:
            return denoise(x, sigma)
        denoised, score = vjp(denoise, log_likelihood, x0_hat, x, sigma, sigma_data)
        return denoised + sigma**2 * score

    return guided


def exact_vjp(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    x0_estimate: X0Estimate,
    x: State,
    sigma: Sigma,
    sigma_data: float = SIGMA_DATA,
) -> tuple[State, State]:
    """``D`` and ``(a + b dD/dx)^T v``, ``v`` the gradient at ``x0_hat``: autograd through ``D``."""
    differentiable = torch.is_grad_enabled()  # is someone attacking the whole chain?
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        denoised = denoise(leaf, sigma)
        a, b = x0_estimate(sigma)
        value = log_likelihood(a * leaf + b * denoised, sigma).sum()
        retain = differentiable or leaf is x  # its owner may go through the graph once more
        (score,) = torch.autograd.grad(
            value, leaf, retain_graph=retain, create_graph=differentiable
        )
    return (denoised if differentiable else denoised.detach()), score


def identity_jacobian(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    x0_estimate: X0Estimate,
    x: State,
    sigma: Sigma,
    sigma_data: float = SIGMA_DATA,
) -> tuple[State, State]:
    """As if ``dD/dx`` were ``sd^2 / (sigma^2 + sd^2)`` times the identity; He et al. (2024).

    That is the Jacobian for independent pixels of variance ``sd^2``; one forward pass a call.
    """
    denoised = denoise(x, sigma)
    a, b = x0_estimate(sigma)
    v = likelihood_gradient(log_likelihood, a * x + b * denoised, sigma)
    return denoised, (a + b * sigma_data**2 / (sigma**2 + sigma_data**2)) * v


def finite_difference_jvp(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    x0_estimate: X0Estimate,
    x: State,
    sigma: Sigma,
    sigma_data: float = SIGMA_DATA,
) -> tuple[State, State]:
    """``J^T v = J v``: the Jacobian of a true MMSE denoiser is a covariance over ``sigma^2``.

    ``J v`` is one forward difference along ``v``, of length ``sigma / 100`` a pixel; no graph.
    """
    denoised = denoise(x, sigma)
    a, b = x0_estimate(sigma)
    v = likelihood_gradient(log_likelihood, a * x + b * denoised, sigma)
    size = v.flatten(1).square().mean(1).add(torch.finfo(v.dtype).tiny).sqrt()
    step = 0.01 * sigma / size.view(-1, *(1,) * (x.ndim - 1))
    return denoised, a * v + b * (denoise(x + step * v, sigma) - denoised) / step


def likelihood_gradient(log_likelihood: LogLikelihood, x0: State, sigma: Sigma) -> State:
    """The gradient of ``log p(c | x0)`` at ``x0``; differentiable again if gradients are on."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = x0 if x0.requires_grad else x0.detach().requires_grad_()
        value = log_likelihood(leaf, sigma).sum()
        (v,) = torch.autograd.grad(value, leaf, create_graph=differentiable)
    return v


def posterior_mean(sigma: Sigma) -> tuple[Tensor, Tensor]:
    """``x0_hat = D``: in these coordinates one Euler step of the ODE to sigma = 0."""
    return torch.zeros_like(sigma), torch.ones_like(sigma)


def ode_euler(sigma: Sigma) -> tuple[Tensor, Tensor]:
    """One Euler step of the VP probability-flow ODE, to time 0.

    ``x_vp + t (beta / 2) (x_vp + score_vp)``, where ``x_vp = x / sqrt(1 + sigma^2)`` and beta is
    linear from 0.1 to 20 (Song et al. 2021). As sigma falls to 0 it tends to ``x + (D - x) / 2``.
    """
    return _vp_step(sigma, score_weight=0.5)


def sde_euler(sigma: Sigma) -> tuple[Tensor, Tensor]:
    """One step of the VP reverse SDE without its noise: ``ode_euler`` with the score twice."""
    return _vp_step(sigma, score_weight=1.0)


def _vp_step(sigma: Sigma, score_weight: float) -> tuple[Tensor, Tensor]:
    t = vp_time(sigma)
    drift = t * vp_beta(sigma)
    a = (1 + sigma**2).rsqrt()
    b = score_weight * drift / (a * sigma**2)  # the score is (D - x) / (a sigma^2)
    return a * (1 + drift / 2) - b, b


def sum_log_likelihoods(*terms: LogLikelihood) -> LogLikelihood:
    """Independent conditions: their log-likelihoods add up."""
    return lambda x0, sigma: torch.stack([term(x0, sigma) for term in terms]).sum(0)


def restrict_to_interval(interval: Interval | None, term: LogLikelihood) -> LogLikelihood:
    """``term`` at the noise levels of ``interval``, both ends included, and 0 elsewhere."""
    if interval is None:
        return term
    low, high = interval

    def log_likelihood(x0: State, sigma: Sigma) -> Float[Tensor, " batch"]:
        return term(x0, sigma) if low <= float(sigma) <= high else x0.flatten(1).sum(1) * 0

    return log_likelihood


def normalize_gradient(term: LogLikelihood, length: float) -> LogLikelihood:
    """``term`` with a gradient of L2 norm ``length`` at every image.

    Such a field is the gradient of no function; the value returned only carries it.
    """

    def log_likelihood(x0: State, sigma: Sigma) -> Float[Tensor, " batch"]:
        with torch.enable_grad():
            leaf = x0 if x0.requires_grad else x0.detach().requires_grad_()
            (v,) = torch.autograd.grad(term(leaf, sigma).sum(), leaf, create_graph=True)
        norm = v.flatten(1).square().sum(1).add(torch.finfo(v.dtype).tiny).sqrt()
        return _InnerProduct.apply(x0, length * v / norm.view(-1, *(1,) * (v.ndim - 1)))

    return log_likelihood


class _InnerProduct(torch.autograd.Function):
    """``<x0, v>`` for each image, whose gradient with respect to ``x0`` is the field ``v``."""

    @staticmethod
    def forward(ctx: Any, x0: State, v: State) -> Float[Tensor, " batch"]:
        ctx.save_for_backward(v)
        return (x0 * v).flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, " batch"]) -> tuple[State, None]:
        (v,) = ctx.saved_tensors
        return grad.view(-1, *(1,) * (v.ndim - 1)) * v, None


def sum_conditions(denoise: Denoise, *conditions: Callable[[Denoise], Denoise]) -> Denoise:
    """Each condition guides ``denoise`` on its own, and their corrections add up.

    All share one evaluation of ``denoise`` at x, and take gradients through its graph.
    """

    def guided(x: State, sigma: Sigma) -> State:
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            plain = denoise(leaf, sigma)

        def cached(state: State, level: Sigma) -> State:
            return plain if state is leaf else denoise(state, level)

        changes = [condition(cached)(leaf, sigma) - plain for condition in conditions]
        return plain + torch.stack(changes).sum(0)

    return guided


JACOBIANS: dict[str, VJP] = {
    "exact": exact_vjp,
    "identity": identity_jacobian,
    "finite_difference": finite_difference_jvp,
}
X0_ESTIMATES: dict[str, X0Estimate] = {
    "denoiser": posterior_mean,
    "ode_euler": ode_euler,
    "sde_euler": sde_euler,
}
