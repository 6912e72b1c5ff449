"""Misclassification at a rising price of perceptual distance; Laidlaw et al. (2021).

Give ``lpips=scoreag.metrics.lpips.load_lpips(features, heads)``; ``scoreag assess`` fills it in.
"""

from dataclasses import dataclass, field

import torch

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.norms import (
    PerceptualEmbedding,
    embedding_distance,
    l2_norms,
    project_by_bisection,
    require_lpips,
)
from scoreag.attacks._common.objective import Objective
from scoreag.attacks._common.search import init_best
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits

PROBE_LENGTH = 0.1  # pixels; of the step that measures the distance along a direction
INITIAL_PENALTY = 0.01  # of a unit of distance outside the ball, in units of sqrt(eps)


@dataclass(frozen=True)
class LPA(Attack):
    """The Lagrangian perceptual attack: ``min(margin, confidence) - penalty max(0, d - r)``.

    d is the distance of the embeddings, r the root of ``eps``; the penalty is ten times as high in
    each outer step. Returns, of the iterates projected onto the ball, that of largest margin.

    Args:
        eps: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: of each outer step, shrinking in length to a tenth.
        outer_steps: each with a higher penalty, continuing where the last one ended.
        confidence: margin in logits beyond which nothing is gained.
        eot_samples: calls of the classifier that a gradient is the mean of.
        lpips: the distance; no option, but what the attack needs.
    """

    eps: float = option(0.002, above=0)
    steps: int = option(20, above=0)
    outer_steps: int = option(5, above=0)
    confidence: float = option(1.0, low=0)
    eot_samples: int = option(1, above=0)
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        lpips, radius = require_lpips(self), self.eps**0.5
        clean = lpips.embed(images).detach()
        x = (images + 1e-3 * noise.fold_in("lpa").normal_like(images)).clamp(0, 1)
        best = init_best(images)
        objective = Objective(classifier, labels, self._loss, self.eot_samples)
        for outer_step in range(self.outer_steps):
            penalty = INITIAL_PENALTY * 10**outer_step / radius
            for i in range(self.steps):
                ascent = objective.loss_gradient(x).gradient
                ascent = ascent - penalty * _penalty_gradient(lpips, clean, x, radius)
                x = _step_along(lpips, x, ascent, radius * 0.1 ** (i / self.steps))
            inside = project_by_bisection(lpips, images, x, self.eps)
            best = best.update(inside, objective.mean_margin(inside))
        return best.images

    def _loss(self, logits: Logits, labels: Labels) -> BatchScalar:
        return margin(logits, labels).clamp(max=self.confidence)


def _penalty_gradient(
    lpips: PerceptualEmbedding, clean: torch.Tensor, images: Images, radius: float
) -> Images:
    """The gradient of ``max(0, d - radius)``, d the distance to the ``clean`` embedding."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        distance = (embedding_distance(lpips.embed(leaf), clean) + 1e-20).sqrt()
        total = (distance - radius).clamp(min=0).sum()
    return torch.autograd.grad(total, leaf)[0]


@torch.no_grad()
def _step_along(
    lpips: PerceptualEmbedding, images: Images, ascent: Images, length: float
) -> Images:
    """``images`` along a direction, about ``length`` away in the embedding."""
    direction = ascent / l2_norms(ascent)
    probed = lpips.embed((images + PROBE_LENGTH * direction).clamp(0, 1))
    rate = embedding_distance(probed, lpips.embed(images)).sqrt() / PROBE_LENGTH
    step = length / rate.clamp(min=1e-12)
    return (images + step[:, None, None, None] * direction).clamp(0, 1)
