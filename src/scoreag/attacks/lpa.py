"""A wrong answer at a price of perceptual distance, raised in turns; Laidlaw et al. (2021).

``lpips`` is filled in by whoever runs the attack: ``scoreag.metrics.lpips.load_lpips(features, heads)``.
"""

import math
from dataclasses import dataclass, field

import torch

from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.lpips_ball import (
    PerceptualEmbedding,
    embedding_distance,
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
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits

PROBE_LENGTH = 0.1  # length of the step by which the distance along a direction is measured, pixels
INITIAL_PENALTY = 0.01  # of a unit of distance beyond the bound, in units of sqrt(bound)


@suggest_option_names
@dataclass(frozen=True)
class LPA:
    """The Lagrangian perceptual attack: ``min(margin, confidence) - price max(0, d - r)``.

    d is the distance of the embeddings, r the root of ``bound``; the price is ten times as high in
    each turn. Of all iterates, drawn back into the ball, for each image the one on which the
    likeliest wrong class is furthest ahead.

    Args:
        bound: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: of each turn, shrinking in length to a tenth.
        turns: each at a higher price, going on where the last one ended.
        confidence: by how many logits the wrong class shall lead.
        draws: calls of the classifier that a gradient is the mean of.
        lpips: the distance; no option, but what the attack needs.
    """

    eps: float = 0.002
    steps: int = 20
    outer_steps: int = 5
    confidence: float = 1.0
    eot_samples: int = 1
    lpips: PerceptualEmbedding | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "outer_steps", "eot_samples")
        validate_attack_options(self, positive=positive, ranges={"confidence": (0, math.inf)})

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within ``bound`` of those given."""
        lpips, radius = require_lpips(self), self.eps**0.5
        home = lpips.embed(images).detach()
        point = (images + 1e-3 * noise.fold_in("lpa").normal_like(images)).clamp(0, 1)
        best = init_best(images)
        wanted = Objective(classifier, labels, self._loss, self.eot_samples)
        for turn in range(self.outer_steps):
            price = INITIAL_PENALTY * 10**turn / radius
            for i in range(self.steps):
                uphill = wanted.loss_gradient(point).gradient
                uphill = uphill - price * _penalty_gradient(lpips, home, point, radius)
                length = radius * 0.1 ** (i / self.steps)
                point = _step_along(lpips, point, uphill, length)
            inside = project_by_bisection(lpips, images, point, self.eps)
            best = best.update(inside, wanted.mean_margin(inside))
        return best.images

    def _loss(self, logits: Logits, labels: Labels) -> BatchScalar:
        return margin(logits, labels).clamp(max=self.confidence)


def _penalty_gradient(
    lpips: PerceptualEmbedding, clean_embedding: torch.Tensor, images: Images, radius: float
) -> Images:
    """The gradient of ``max(0, d - radius)``."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        distance = (embedding_distance(lpips.embed(leaf), clean_embedding) + 1e-20).sqrt()
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
