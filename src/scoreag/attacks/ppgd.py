"""PGD in an LPIPS ball, each step the steepest of its perceptual length; Laidlaw et al. (2021).

Give ``lpips=scoreag.metrics.lpips.load_lpips(features, heads)``; ``scoreag assess`` fills it in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import (
    PerceptualEmbedding,
    l2_norms,
    project_by_bisection,
    require_lpips,
)
from scoreag.attacks._common.objective import Objective
from scoreag.attacks._common.search import find_best_iterate
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels


@dataclass(frozen=True)
class PPGD(Attack):
    """Perceptual PGD; returns the iterate on which the likeliest wrong class is furthest ahead.

    Args:
        eps: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: number of gradient steps, each of length 2.5 sqrt(eps) / steps in the embedding.
        cg_iterations: of conjugate gradients, which find the step.
        loss: "ce", "margin" or "dlr".
        eot_samples: calls of the classifier that a gradient is the mean of.
        lpips: the distance; no option, but what the attack needs.
    """

    eps: float = option(0.002, above=0)
    steps: int = option(40, above=0)
    cg_iterations: int = option(5, above=0)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        lpips = require_lpips(self)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        length = 2.5 * self.eps**0.5 / self.steps

        def project(x: Images) -> Images:
            return project_by_bisection(lpips, images, x.clamp(0, 1), self.eps)

        def step(x: Images, gradient: Images) -> Images:
            return project(x + solve_steepest_step(lpips, x, gradient, length, self.cg_iterations))

        start = project(images + 1e-3 * noise.fold_in("ppgd").normal_like(images))
        return find_best_iterate(objective, images, start, lambda x: x, step, self.steps)


def solve_steepest_step(
    lpips: PerceptualEmbedding, images: Images, gradient: Images, length: float, cg_iterations: int
) -> Images:
    """``d`` with the largest ``gradient . d`` among those with ``|J d| = length``.

    J is the embedding's Jacobian: ``d`` goes along ``(J^T J)^-1 gradient``, by conjugate gradients.
    """
    product = _make_jtj_product(lpips, images)
    solution = torch.zeros_like(gradient)
    residual = gradient / l2_norms(gradient)
    search, square = residual, _batch_dot(residual, residual)
    for _ in range(cg_iterations):
        image = product(search)
        alpha = square / _batch_dot(search, image).clamp(min=1e-30)
        solution = solution + _scale_images(alpha, search)
        residual = residual - _scale_images(alpha, image)
        square, last = _batch_dot(residual, residual), square
        search = residual + _scale_images(square / last.clamp(min=1e-30), search)
    norm = _batch_dot(solution, product(solution)).clamp(min=1e-30).sqrt()
    return _scale_images(length / norm, solution)


def _make_jtj_product(lpips: PerceptualEmbedding, images: Images) -> Callable[[Images], Images]:
    """``v -> J^T J v``; J is differentiated twice, as ``u -> J^T u`` has ``J v`` for a gradient."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        phi = lpips.embed(leaf)
        u = torch.zeros_like(phi).requires_grad_()
        (pullback,) = torch.autograd.grad(phi, leaf, u, create_graph=True)

    def product(v: Images) -> Images:
        (pushed,) = torch.autograd.grad(pullback, u, v, retain_graph=True)
        return torch.autograd.grad(phi, leaf, pushed, retain_graph=True)[0]

    return product


def _batch_dot(a: Images, b: Images) -> BatchScalar:
    return (a * b).flatten(1).sum(1)


def _scale_images(factor: BatchScalar, x: Images) -> Images:
    return factor[:, None, None, None] * x
