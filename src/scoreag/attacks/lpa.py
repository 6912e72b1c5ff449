"""Misclassification with a rising penalty on perceptual distance; Laidlaw et al. (2021).

Give ``lpips=scoreag.metrics.lpips.load_lpips(features, heads)``; ``scoreag assess`` sets it.
"""

from dataclasses import dataclass, field

import torch

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import Objective, l2_norms, margin
from scoreag.attacks._search import init_best
from scoreag.attacks.ppgd import (
    PerceptualEmbedding,
    embedding_distance,
    project_by_bisection,
    require_lpips,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits

PROBE_LENGTH = 0.1  # pixels; of the step that measures the distance along a direction
INITIAL_PENALTY = 0.01  # of a unit of distance outside the ball, in units of sqrt(eps)


@dataclass(frozen=True)
class LPA(Attack):
    """The Lagrangian perceptual attack: ``min(margin, confidence) - penalty max(0, d - r)``.

    d is the distance of the embeddings, r the root of ``eps``; each outer step multiplies the
    penalty by ten. Returns, of the iterates projected onto the ball, that of largest margin.

    Args:
        eps: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: of each outer step, with lengths that shrink to a tenth.
        outer_steps: each continues with a higher penalty where the last one ended.
        confidence: the margin in logits at which the loss saturates.
        lpips: the distance; required; not an option.
    """

    eps: float = option(0.002, above=0)
    steps: int = option(20, above=0)
    outer_steps: int = option(5, above=0)
    confidence: float = option(1.0, low=0)
    eot_samples: int = option(1, above=0)
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        def loss(logits: Logits, labels: Labels) -> BatchScalar:
            return margin(logits, labels).clamp(max=self.confidence)

        lpips, radius = require_lpips(self), self.eps**0.5
        clean = lpips.embed(images).detach()
        x = (images + 1e-3 * noise.fold_in("lpa").normal_like(images)).clamp(0, 1)
        best = init_best(images)
        objective = Objective(classifier, labels, loss, self.eot_samples)
        for outer_step in range(self.outer_steps):
            penalty = INITIAL_PENALTY * 10**outer_step / radius
            for i in range(self.steps):
                ascent = objective.loss_gradient(x).gradient
                ascent = ascent - penalty * _penalty_gradient(lpips, clean, x, radius)
                x = _step_along(lpips, x, ascent, radius * 0.1 ** (i / self.steps))
            inside = project_by_bisection(lpips, images, x, self.eps)
            best = best.update(inside, objective.mean_margin(inside))
        return best.images


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
    """Move the images along ``ascent``, by about ``length`` in the embedding."""
    direction = ascent / l2_norms(ascent)
    probed = lpips.embed((images + PROBE_LENGTH * direction).clamp(0, 1))
    rate = embedding_distance(probed, lpips.embed(images)).sqrt() / PROBE_LENGTH
    step = length / rate.clamp(min=1e-12)
    return (images + step[:, None, None, None] * direction).clamp(0, 1)
