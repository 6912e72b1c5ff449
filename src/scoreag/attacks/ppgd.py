"""PGD in an LPIPS ball, each step the steepest of its perceptual length; Laidlaw et al. (2021).

Give ``lpips=scoreag.metrics.lpips.load_lpips(features, heads)``; ``scoreag assess`` sets it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._attack import Attack, attack_name, option
from scoreag.attacks._objective import LOSSES, Objective, l2_norms
from scoreag.attacks._search import ascend
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels
from scoreag.diffusion.likelihoods import batch_dot, conjugate_gradients

BISECTION_STEPS = 12  # the distance to the edge is then known to 1 in 4,096


@runtime_checkable
class PerceptualEmbedding(Protocol):
    """phi of a distance ``|phi(x) - phi(x')|^2``, such as ``metrics.lpips.Lpips``."""

    def embed(self, images: Images) -> Float[Tensor, "batch features"]: ...


@dataclass(frozen=True)
class PPGD(Attack):
    """Perceptual PGD; returns the iterate with the largest margin.

    Args:
        eps: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: number of gradient steps, each of length 2.5 sqrt(eps) / steps in the embedding.
        cg_iterations: of conjugate gradients, which compute the step.
        lpips: the distance; required; not an option.
    """

    eps: float = option(0.002, above=0)
    steps: int = option(40, above=0)
    cg_iterations: int = option(5, above=0)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        lpips = require_lpips(self)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        length = 2.5 * self.eps**0.5 / self.steps

        def project(x: Images) -> Images:
            return project_by_bisection(lpips, images, x.clamp(0, 1), self.eps)

        def step(x: Images, gradient: Images) -> Images:
            return project(x + solve_steepest_step(lpips, x, gradient, length, self.cg_iterations))

        start = project(images + 1e-3 * noise.fold_in("ppgd").normal_like(images))
        return ascend(objective, images, start, step, self.steps)


def require_lpips(attack: Any) -> PerceptualEmbedding:
    """The distance of an attack, or an error that says how to load it."""
    if attack.lpips is None:
        raise ValueError(
            f"{attack_name(type(attack))} needs the weights of LPIPS: give "
            "lpips=scoreag.metrics.lpips.load_lpips(features, heads) with two .npz files"
        )
    lpips: PerceptualEmbedding = attack.lpips
    return lpips


def embedding_distance(embedding: Float[Tensor, "batch features"], other: Tensor) -> BatchScalar:
    """``|phi - phi'|^2``."""
    return (embedding - other).square().sum(1)


@torch.no_grad()
def project_by_bisection(
    lpips: PerceptualEmbedding, images: Images, perturbed: Images, eps: float
) -> Images:
    """The farthest point on the line from each image to ``perturbed`` within distance ``eps``.

    Bisection assumes that the distance grows along the line; the result is always in the ball.
    """

    def at(fraction: BatchScalar) -> Images:
        part = fraction[:, None, None, None]
        return torch.where(part < 1, images + part * (perturbed - images), perturbed).clamp(0, 1)

    center = lpips.embed(images)
    inside = embedding_distance(lpips.embed(perturbed), center) <= eps
    low, high = inside.to(images), torch.ones_like(inside, dtype=images.dtype)
    for _ in range(0 if inside.all() else BISECTION_STEPS):
        middle = (low + high) / 2
        near = embedding_distance(lpips.embed(at(middle)), center) <= eps
        low, high = torch.where(near, middle, low), torch.where(near, high, middle)
    return at(low)


def solve_steepest_step(
    lpips: PerceptualEmbedding, images: Images, gradient: Images, length: float, cg_iterations: int
) -> Images:
    """``d`` with the largest ``gradient . d`` among those with ``|J d| = length``.

    J is the embedding's Jacobian: ``d`` is along ``(J^T J)^-1 gradient``, by conjugate gradients.
    """
    product = _make_jtj_product(lpips, images)
    solution = conjugate_gradients(product, gradient / l2_norms(gradient), cg_iterations)
    norm = batch_dot(solution, product(solution)).clamp(min=1e-30).sqrt()
    return length / norm * solution


def _make_jtj_product(lpips: PerceptualEmbedding, images: Images) -> Callable[[Images], Images]:
    """``v -> J^T J v``, where ``J v`` is the gradient of ``u -> v . J^T u``."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        phi = lpips.embed(leaf)
        u = torch.zeros_like(phi).requires_grad_()
        (pullback,) = torch.autograd.grad(phi, leaf, u, create_graph=True)

    def product(v: Images) -> Images:
        (pushed,) = torch.autograd.grad(pullback, u, v, retain_graph=True)
        return torch.autograd.grad(phi, leaf, pushed, retain_graph=True)[0]

    return product
