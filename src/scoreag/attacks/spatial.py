"""Pixels that move instead of changing colour, by a smooth flow: stAdv, Xiao et al. (2018)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels, PerImage
from scoreag.search.balls import cut
from scoreag.search.door import door
from scoreag.search.losses import margin
from scoreag.search.objective import Best, Objective, nothing_yet
from scoreag.search.options import answering, check

Flow = Float[Tensor, "batch 2 height width"]  # to the right and down, in pixels
STANDING = 0.1  # of the weight of the bending, until the image is misread
TINY = 1e-6  # pixels: the root has a slope where nothing is bent


@answering
@dataclass(frozen=True)
class Attack:
    """The flow that fools with the least bending, by Adam; deterministic.

    The loss is ``max(z_y - max_{i != y} z_i, -confidence) + smoothness L_flow``, the bending at a
    tenth of its weight while the classifier is right; of the iterates that fool, the least bent
    one is kept, else the one that comes nearest to it.

    Args:
        reach: how far a pixel may move at most, in each direction, in pixels.
        steps: number of gradient steps.
        step_size: of Adam, in pixels.
        smoothness: the weight of the bending, tau of the paper.
        confidence: by how many logits the wrong class shall lead.
        draws: calls of the classifier that a gradient is the mean of.
    """

    reach: float = 2.0
    steps: int = 100
    step_size: float = 0.05
    smoothness: float = 0.05
    confidence: float = 0.5
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("reach", "steps", "step_size", "draws")
        check(
            self,
            above_zero=positive,
            ranges={"smoothness": (0, math.inf), "confidence": (0, math.inf)},
        )

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1], each a resampling of the one given."""

        def loss(logits: Tensor, labels: Labels) -> PerImage:
            return margin(logits, labels).clamp(max=self.confidence)

        flow = images.new_zeros(len(images), 2, *images.shape[-2:])
        objective = Objective(lambda f: classifier(warped(images, f)), labels, loss, self.draws)
        step = _Adam(torch.zeros_like(flow), torch.zeros_like(flow))
        best = nothing_yet(images)
        for i in range(1, self.steps + 1):
            slope = objective.slope(flow)
            best = self._offered(best, images, flow, slope.lead)
            weight = torch.where(slope.lead > 0, self.smoothness, self.smoothness * STANDING)
            weight = weight.to(flow)[:, None, None, None]  # else of the default dtype
            uphill = slope.gradient - weight * _bending_gradient(flow)
            step = step.after(uphill)
            flow = (flow + self.step_size * step.at(i)).clamp(-self.reach, self.reach)
        return self._offered(best, images, flow, objective.lead(flow)).images

    def _offered(self, best: Best, images: Images, flow: Flow, lead: PerImage) -> Best:
        """What fools has a key above 0, and a larger one the less it is bent."""
        straight = 1 / (1 + bending(flow))
        key = torch.where(lead > 0, straight, lead)
        return best.offered(warped(images, flow), key)


@dataclass(frozen=True, eq=False)
class _Adam:
    """Running means of a gradient and of its square, each entry alone; Kingma & Ba (2015)."""

    first: Flow
    second: Flow

    def after(self, gradient: Flow) -> "_Adam":
        first = 0.9 * self.first + 0.1 * gradient
        return _Adam(first, 0.999 * self.second + 0.001 * gradient.square())

    def at(self, count: int) -> Flow:
        """The step after ``count`` gradients, about 1 in size."""
        mean, square = self.first / (1 - 0.9**count), self.second / (1 - 0.999**count)
        return mean / (square.sqrt() + 1e-8)


def warped(images: Images, flow: Flow) -> Images:
    """Each pixel is read ``flow`` pixels away, between four others; beyond the edge, from it."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    x = 2 * (columns + flow[:, 0]) / max(width - 1, 1) - 1
    y = 2 * (rows[:, None] + flow[:, 1]) / max(height - 1, 1) - 1
    grid = torch.stack([x, y], dim=3)
    return cut(F.grid_sample(images, grid, padding_mode="border", align_corners=True))


def bending(flow: Flow) -> PerImage:
    """``L_flow``, eq. 4: over neighbours, the distance between where they go, in pixels."""
    apart = [flow.diff(dim=2), flow.diff(dim=3)]
    far = [(d.square().sum(1) + TINY**2).sqrt() - TINY for d in apart]
    return torch.cat([d.flatten(1) for d in far], dim=1).sum(1)


def _bending_gradient(flow: Flow) -> Flow:
    leaf = flow.detach().requires_grad_()
    with torch.enable_grad():
        total = bending(leaf).sum()
    return torch.autograd.grad(total, leaf)[0]
