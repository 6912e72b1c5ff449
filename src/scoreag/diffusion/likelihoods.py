"""Likelihoods that guide: p(class | x0) by a classifier, and p(image | x0) by a Gaussian."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from scoreag.core.types import (
    BatchScalar,
    Classifier,
    Denoise,
    Labels,
    Logits,
    LogLikelihood,
    Sigma,
    State,
)
from scoreag.diffusion.compiled import without_compiled
from scoreag.diffusion.guidance import SIGMA_DATA, requiring_grad

VarianceFn: TypeAlias = Callable[..., Tensor]  # (sigma, similarity, sigma_data) -> v(sigma)

MAX_MARGIN = 5.0  # logits, beyond which the margin's likelihood is constant
MAX_VARIANCE_FRACTION = 0.29  # largest eigenvalue of images over the trace (CIFAR-10: 222 / 768)


def classifier_likelihood(
    classifier: Classifier,
    log_prob: Callable[[Logits], BatchScalar],
    margin: Callable[[Logits], BatchScalar],
    attack_scale: float,
    stop_margin: float | None = None,
    on_skip: Callable[[BatchScalar], None] = lambda skipped: None,
) -> LogLikelihood:
    """``attack_scale * log_prob(f(x0))``, and 0 for an image whose margin reaches ``stop_margin``.

    Args:
        log_prob: log-likelihood of the goal, from the logits.
        margin: by how many logits the goal is ahead.
        stop_margin: None never stops.
        on_skip: called with 1 for each image that is not guided, else 0.
    """
    # a defense refuses images outside of [0, 1], but an estimate may be outside
    classify = getattr(classifier, "forward_unclamped", classifier)

    def log_likelihood(x0: State, sigma: Sigma) -> BatchScalar:
        logits = classify((x0 + 1) / 2)
        value = attack_scale * log_prob(logits)
        if stop_margin is None:
            return value
        skipped = margin(logits).detach() >= stop_margin
        on_skip(skipped.to(value.dtype))
        return torch.where(skipped, torch.zeros_like(value), value)

    return log_likelihood


def targeted(
    classifier: Classifier, targets: Labels, attack_scale: float, **options: Any
) -> LogLikelihood:
    """``attack_scale * log softmax(f(x0))[target]``; ``attack_scale`` is s_y of the paper.

    Args:
        options: ``stop_margin`` and ``on_skip`` of ``classifier_likelihood``.
    """

    def log_prob(logits: Logits) -> BatchScalar:
        return logits.log_softmax(1).gather(1, targets[:, None]).squeeze(1)

    lead = partial(logit_margin, labels=targets)
    return classifier_likelihood(classifier, log_prob, lead, attack_scale, **options)


def untargeted(
    classifier: Classifier, labels: Labels, attack_scale: float, **options: Any
) -> LogLikelihood:
    """``attack_scale * log(1 - softmax(f(x0))[label])``; options as in ``targeted``."""
    log_prob = partial(log_misclassified_prob, labels=labels)
    return classifier_likelihood(
        classifier, log_prob, lambda z: -logit_margin(z, labels), attack_scale, **options
    )


def margin(
    classifier: Classifier,
    labels: Labels,
    attack_scale: float,
    targets: Labels | None = None,
    max_margin: float = MAX_MARGIN,
    **options: Any,
) -> LogLikelihood:
    """``attack_scale * min(max_margin, margin)``: a confident classifier has a gradient, too.

    Args:
        labels: the true classes; the margin is that of the best other class over them.
        targets: if given, the margin is that of these classes over all others.
        max_margin: in logits; the likelihood is constant beyond it.
        options: as in ``targeted``.
    """

    def lead(logits: Logits) -> BatchScalar:
        return -logit_margin(logits, labels) if targets is None else logit_margin(logits, targets)

    return classifier_likelihood(
        classifier, lambda z: lead(z).clamp(max=max_margin), lead, attack_scale, **options
    )


def logit_margin(logits: Logits, labels: torch.Tensor) -> BatchScalar:
    """By how much the logit of ``labels`` exceeds the largest other one."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def log_misclassified_prob(logits: Logits, labels: Labels) -> BatchScalar:
    """``log(1 - softmax(z)_y)``, as ``log sigmoid(logsumexp(other logits) - z_y)``.

    The value is exact where the label's probability rounds to 1, and the gradient where it rounds
    to 0.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return logsigmoid(others.logsumexp(1) - own)


def reconstruction(
    reference: State,
    similarity: float | BatchScalar,
    variance: str = "damped",
    sigma_data: float = SIGMA_DATA,
) -> LogLikelihood:
    """``log N(reference; x0_hat, v(sigma))`` up to a constant: ``-|x0_hat - reference|^2 / 2v``.

    Args:
        reference: the image to stay close to, in the units of the state, [-1, 1].
        similarity: s_x of the paper, also one for each image; 0 ignores the reference.
        variance: the name of v(sigma) in ``VARIANCES``.
        sigma_data: sd, the standard deviation of a pixel, in the units of the state.
    """

    def log_likelihood(x0: State, sigma: Sigma) -> BatchScalar:
        if _is_zero(similarity):
            return (x0 * 0).flatten(1).sum(1)
        s_x = similarity.to(x0) if isinstance(similarity, Tensor) else similarity
        weight = 1 / VARIANCES[variance](sigma, s_x, sigma_data)
        return -0.5 * weight * (x0 - reference).flatten(1).square().sum(1)

    return log_likelihood


def _constant(
    sigma: Tensor, similarity: float | BatchScalar, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """``1 / s_x``: as if the estimate were certain at every level."""
    return torch.ones_like(sigma) / similarity


def _widened(
    sigma: Tensor, similarity: float | BatchScalar, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """``1 / s_x + r^2``, where ``r^2 = sigma^2 sd^2 / (sigma^2 + sd^2)``; Song et al. (2023)."""
    return 1 / similarity + sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)


def _damped(
    sigma: Tensor, similarity: float | BatchScalar, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """``(1 / s_x + r^2) (1 + sigma^2 / sd^2)``, PiGDM's weight: the gain is always below 1.

    The gain of a guided denoiser is ``sigma^2 J / v`` along a direction in which ``dD/dx`` is J;
    here it is ``J r^2 / (r^2 + 1/s_x)``, and J is at most 1.
    """
    return _widened(sigma, similarity, sigma_data) * (1 + sigma**2 / sigma_data**2)


VARIANCES: dict[str, VarianceFn] = {"constant": _constant, "widened": _widened, "damped": _damped}
EXACT_VARIANCE = "exact"  # the fourth is no function of sigma alone: see ``mmps_denoiser``


def mmps_denoiser(
    denoise: Denoise, reference: State, similarity: float | BatchScalar, cg_steps: int = 3
) -> Denoise:
    """The denoiser given ``reference = x0 + N(0, 1/s_x)``, with the estimate's own covariance.

        D_c = D + sigma^2 J^T (I / s_x + sigma^2 J)^-1 (reference - D),  J = dD/dx,

    exact for Gaussian x0 once the conjugate gradients have converged; Rozet et al. (2024). They
    take one product with J per step, which is taken as symmetric.

    Args:
        cg_steps: of conjugate gradients; each resolves one more distinct variance of x0.
    """

    def guided(x: State, sigma: Sigma) -> State:
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad(), without_compiled(differentiable):
            leaf = requiring_grad(x)
            denoised = denoise(leaf, sigma)

            def jacobian_product(v: State) -> State:
                return torch.autograd.grad(
                    denoised, leaf, v, retain_graph=True, create_graph=differentiable
                )[0]

            s_x = similarity
            if isinstance(similarity, Tensor):
                s_x = similarity.to(x).view(-1, *(1,) * (x.ndim - 1))
            residual = reference - denoised
            residual = residual if differentiable else residual.detach()
            solved = conjugate_gradients(
                lambda v: v / s_x + sigma**2 * jacobian_product(v), residual, cg_steps
            )
            shift = sigma**2 * jacobian_product(solved)
        return denoised + shift if differentiable else denoised.detach() + shift.detach()

    return denoise if _is_zero(similarity) else guided


def _is_zero(similarity: float | BatchScalar) -> bool:
    """Whether the reference is ignored; a similarity of each image is above 0."""
    return not isinstance(similarity, Tensor) and not similarity


def conjugate_gradients(product: Callable[[State], State], target: State, steps: int) -> State:
    """``A^-1 target`` for each image, from zero; ``product`` multiplies by A."""
    solution, residual, direction = torch.zeros_like(target), target, target
    square = batch_dot(residual, residual)
    tiny = torch.finfo(target.dtype).tiny
    for _ in range(steps):
        mapped = product(direction)
        alpha = square / (batch_dot(direction, mapped) + tiny)
        solution, residual = solution + alpha * direction, residual - alpha * mapped
        square, last = batch_dot(residual, residual), square
        direction = residual + square / (last + tiny) * direction
    return solution


def batch_dot(a: State, b: State) -> Tensor:
    """The inner product of each image, shaped to multiply the images."""
    return (a * b).flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))


def max_stable_sigma(
    variance: str,
    similarity: float,
    sigmas: Float[Tensor, " levels"],
    pixels: int,
    sigma_data: float = SIGMA_DATA,
) -> float:
    """The highest of ``sigmas`` from which no Euler step amplifies errors.

    In a direction of variance L the denoiser is ``J x``, ``J = L / (L + sigma^2)``, and one step
    to ``sigma' = q sigma`` multiplies an error by ``q + (1 - q) J (1 - gain)``.  L is the largest
    variance of images, where errors explode first.
    """
    largest = MAX_VARIANCE_FRACTION * sigma_data**2 * pixels
    stable = 0.0
    for sigma, lower in reversed(list(pairwise(sigmas.double()))):
        jacobian = largest / (largest + sigma**2)
        gain = sigma**2 * jacobian / VARIANCES[variance](sigma, similarity, sigma_data)
        ratio = lower / sigma
        if abs(ratio + (1 - ratio) * jacobian * (1 - gain)) > 1:
            break
        stable = float(sigma)
    return stable
