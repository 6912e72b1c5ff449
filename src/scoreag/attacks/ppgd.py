"""PGD in an LPIPS ball, each step the steepest of its perceptual length; Laidlaw et al. (2021).

``lpips`` is filled in by whoever runs the attack: ``scoreag.metrics.lpips.load(features, heads)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels, PerImage
from scoreag.search.balls import lengths
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.objective import Objective, nothing_yet
from scoreag.search.options import answering, check
from scoreag.search.perceptual import Perceptual, drawn_back, given


@answering
@dataclass(frozen=True)
class Attack:
    """For each image the iterate on which the likeliest wrong class is furthest ahead.

    Args:
        bound: radius of the ball in LPIPS v0.1 (AlexNet), as ``metrics/lpips.py`` measures it.
        steps: number of gradient steps, each of length 2.5 sqrt(bound) / steps in the embedding.
        rounds: of conjugate gradients, which find the step.
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that a gradient is the mean of.
        lpips: the distance; no option, but what the attack needs.
    """

    bound: float = 0.002
    steps: int = 40
    rounds: int = 5
    loss: str = "ce"
    draws: int = 1
    lpips: Perceptual | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check(self, above_zero=("bound", "steps", "rounds", "draws"), loss=LOSSES)

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within ``bound`` of those given."""
        lpips = given(self)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.draws)
        length = 2.5 * self.bound**0.5 / self.steps
        start = images + 1e-3 * noise.at("ppgd").normal_like(images)
        point = drawn_back(lpips, images, start.clamp(0, 1), self.bound)
        best = nothing_yet(images)
        for _ in range(self.steps):
            slope = objective.slope(point)
            best = best.offered(point, slope.lead)
            step = steepest(lpips, point, slope.gradient, length, self.rounds)
            moved = (point + step).clamp(0, 1)
            point = drawn_back(lpips, images, moved, self.bound)
        return best.offered(point, objective.lead(point)).images


def steepest(
    lpips: Perceptual, images: Images, gradient: Images, length: float, rounds: int
) -> Images:
    """``d`` with the largest ``gradient . d`` among those with ``|J d| = length``.

    J is the embedding's Jacobian: ``d`` goes along ``(J^T J)^-1 gradient``, which ``rounds`` of
    conjugate gradients approach.
    """
    curve = _curvature(lpips, images)
    direction = torch.zeros_like(gradient)
    rest = gradient / lengths(gradient)
    search, size = rest, _dot(rest, rest)
    for _ in range(rounds):
        curved = curve(search)
        share = size / _dot(search, curved).clamp(min=1e-30)
        direction = direction + _along(share, search)
        rest = rest - _along(share, curved)
        size, before = _dot(rest, rest), size
        search = rest + _along(size / before.clamp(min=1e-30), search)
    long = _dot(direction, curve(direction)).clamp(min=1e-30).sqrt()
    return _along(length / long, direction)


def _curvature(lpips: Perceptual, images: Images) -> Callable[[Images], Images]:
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


def _dot(a: Images, b: Images) -> PerImage:
    return (a * b).flatten(1).sum(1)


def _along(share: PerImage, x: Images) -> Images:
    return share[:, None, None, None] * x
