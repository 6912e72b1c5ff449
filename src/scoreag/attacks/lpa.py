"""A wrong answer at a price of perceptual distance, raised in turns; Laidlaw et al. (2021).

``lpips`` is filled in by whoever runs the attack: ``scoreag.metrics.lpips.load(features, heads)``.
"""

import math
from dataclasses import dataclass, field

import torch

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels, Logits, PerImage
from scoreag.search.balls import lengths
from scoreag.search.door import door
from scoreag.search.losses import margin
from scoreag.search.objective import Objective, nothing_yet
from scoreag.search.options import answering, check
from scoreag.search.perceptual import Perceptual, apart, drawn_back, given

PROBE = 0.1  # length of the step by which the distance along a direction is measured, pixels
FIRST_PRICE = 0.01  # of a unit of distance beyond the bound, in units of sqrt(bound)


@answering
@dataclass(frozen=True)
class Attack:
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

    bound: float = 0.002
    steps: int = 20
    turns: int = 5
    confidence: float = 1.0
    draws: int = 1
    lpips: Perceptual | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        positive = ("bound", "steps", "turns", "draws")
        check(self, above_zero=positive, ranges={"confidence": (0, math.inf)})

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within ``bound`` of those given."""
        lpips, radius = given(self), self.bound**0.5
        home = lpips.embed(images).detach()
        point = (images + 1e-3 * noise.at("lpa").normal_like(images)).clamp(0, 1)
        best = nothing_yet(images)
        wanted = Objective(classifier, labels, self._loss, self.draws)
        for turn in range(self.turns):
            price = FIRST_PRICE * 10**turn / radius
            for i in range(self.steps):
                uphill = wanted.slope(point).gradient
                uphill = uphill - price * _beyond(lpips, home, point, radius)
                length = radius * 0.1 ** (i / self.steps)
                point = _moved(lpips, point, uphill, length)
            inside = drawn_back(lpips, images, point, self.bound)
            best = best.offered(inside, wanted.lead(inside))
        return best.images

    def _loss(self, logits: Logits, labels: Labels) -> PerImage:
        return margin(logits, labels).clamp(max=self.confidence)


def _beyond(lpips: Perceptual, home: torch.Tensor, images: Images, radius: float) -> Images:
    """The gradient of ``max(0, d - radius)``."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        distance = (apart(lpips.embed(leaf), home) + 1e-20).sqrt()
        total = (distance - radius).clamp(min=0).sum()
    return torch.autograd.grad(total, leaf)[0]


@torch.no_grad()
def _moved(lpips: Perceptual, images: Images, uphill: Images, length: float) -> Images:
    """``images`` along a direction, about ``length`` away in the embedding."""
    direction = uphill / lengths(uphill)
    probed = lpips.embed((images + PROBE * direction).clamp(0, 1))
    rate = apart(probed, lpips.embed(images)).sqrt() / PROBE
    step = length / rate.clamp(min=1e-12)
    return (images + step[:, None, None, None] * direction).clamp(0, 1)
