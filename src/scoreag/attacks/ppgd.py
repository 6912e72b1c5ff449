"""PGD in an LPIPS ball, each step the steepest of its perceptual length; Laidlaw et al. (2021).

``lpips`` is filled in by whoever runs the attack: ``scoreag.metrics.lpips.load_lpips(features, heads)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.lpips_ball import (
    PerceptualEmbedding,
    project_by_bisection,
    require_lpips,
)
from scoreag.attacks._common.norms import l2_norms
from scoreag.attacks._common.objective import Objective, init_best
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels


@suggest_option_names
@dataclass(frozen=True)
class PPGD:
    """For each image the iterate on which the likeliest wrong class is furthest ahead.

    Args:
        bound: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: number of gradient steps, each of length 2.5 sqrt(bound) / steps in the embedding.
        rounds: of conjugate gradients, which find the step.
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that a gradient is the mean of.
        lpips: the distance; no option, but what the attack needs.
    """

    eps: float = 0.002
    steps: int = 40
    cg_iterations: int = 5
    loss: str = "ce"
    eot_samples: int = 1
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        validate_attack_options(
            self, positive=("eps", "steps", "cg_iterations", "eot_samples"), loss=LOSSES
        )

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within ``bound`` of those given."""
        lpips = require_lpips(self)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        length = 2.5 * self.eps**0.5 / self.steps
        start = images + 1e-3 * noise.fold_in("ppgd").normal_like(images)
        point = project_by_bisection(lpips, images, start.clamp(0, 1), self.eps)
        best = init_best(images)
        for _ in range(self.steps):
            slope = objective.loss_gradient(point)
            best = best.update(point, slope.margin)
            step = solve_steepest_step(lpips, point, slope.gradient, length, self.cg_iterations)
            moved = (point + step).clamp(0, 1)
            point = project_by_bisection(lpips, images, moved, self.eps)
        return best.update(point, objective.mean_margin(point)).images


def solve_steepest_step(
    lpips: PerceptualEmbedding, images: Images, gradient: Images, length: float, cg_iterations: int
) -> Images:
    """``d`` with the largest ``gradient . d`` among those with ``|J d| = length``.

    J is the embedding's Jacobian: ``d`` goes along ``(J^T J)^-1 gradient``, which ``rounds`` of
    conjugate gradients approach.
    """
    curve = _make_jtj_product(lpips, images)
    direction = torch.zeros_like(gradient)
    rest = gradient / l2_norms(gradient)
    search, size = rest, _batch_dot(rest, rest)
    for _ in range(cg_iterations):
        curved = curve(search)
        share = size / _batch_dot(search, curved).clamp(min=1e-30)
        direction = direction + _scale_images(share, search)
        rest = rest - _scale_images(share, curved)
        size, before = _batch_dot(rest, rest), size
        search = rest + _scale_images(size / before.clamp(min=1e-30), search)
    long = _batch_dot(direction, curve(direction)).clamp(min=1e-30).sqrt()
    return _scale_images(length / long, direction)


def _make_jtj_product(lpips: PerceptualEmbedding, images: Images) -> Callable[[Images], Images]:
    """``v -> J^T J v``; J is differentiated twice, as ``u -> J^T u`` has ``J v`` for a gradient."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        phi = lpips.embed(leaf)
        u = torch.zeros_like(phi).requires_grad_()
        (pulled,) = torch.autograd.grad(phi, leaf, u, create_graph=True)

    def curved(v: Images) -> Images:
        (pushed,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        return torch.autograd.grad(phi, leaf, pushed, retain_graph=True)[0]

    return curved


def _batch_dot(a: Images, b: Images) -> BatchScalar:
    return (a * b).flatten(1).sum(1)


def _scale_images(factor: BatchScalar, x: Images) -> Images:
    return factor[:, None, None, None] * x
