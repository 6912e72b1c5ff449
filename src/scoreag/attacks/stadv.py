"""Pixels that move instead of changing colour, by a smooth flow: stAdv, Xiao et al. (2018)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.norms import straight_through_clamp
from scoreag.attacks._common.objective import Best, Objective, init_best
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels

Flow = Float[Tensor, "batch 2 height width"]  # to the right and down, in pixels
UNFOOLED_SMOOTHNESS = 0.1  # of the weight of the bending, until the image is misread
SQRT_OFFSET = 1e-6  # pixels: the root has a slope where nothing is bent


@suggest_option_names
@dataclass(frozen=True)
class StAdv:
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

    max_displacement: float = 2.0
    steps: int = 100
    step_size: float = 0.05
    smoothness: float = 0.05
    confidence: float = 0.5
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("max_displacement", "steps", "step_size", "eot_samples")
        validate_attack_options(
            self,
            positive=positive,
            ranges={"smoothness": (0, math.inf), "confidence": (0, math.inf)},
        )

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1], each a resampling of the one given."""

        def loss(logits: Tensor, labels: Labels) -> BatchScalar:
            return margin(logits, labels).clamp(max=self.confidence)

        flow = images.new_zeros(len(images), 2, *images.shape[-2:])
        objective = Objective(lambda f: classifier(warp(images, f)), labels, loss, self.eot_samples)
        step = _Adam(torch.zeros_like(flow), torch.zeros_like(flow))
        best = init_best(images)
        for i in range(1, self.steps + 1):
            slope = objective.loss_gradient(flow)
            best = self._update_best(best, images, flow, slope.margin)
            weight = torch.where(
                slope.margin > 0, self.smoothness, self.smoothness * UNFOOLED_SMOOTHNESS
            )
            weight = weight.to(flow)[:, None, None, None]  # else of the default dtype
            uphill = slope.gradient - weight * _flow_tv_gradient(flow)
            step = step.update(uphill)
            flow = (flow + self.step_size * step.compute_step(i)).clamp(
                -self.max_displacement, self.max_displacement
            )
        return self._update_best(best, images, flow, objective.mean_margin(flow)).images

    def _update_best(self, best: Best, images: Images, flow: Flow, margins: BatchScalar) -> Best:
        """What fools has a key above 0, and a larger one the less it is bent."""
        straight = 1 / (1 + flow_total_variation(flow))
        key = torch.where(margins > 0, straight, margins)
        return best.update(warp(images, flow), key)


@dataclass(frozen=True, eq=False)
class _Adam:
    """Running means of a gradient and of its square, each entry alone; Kingma & Ba (2015)."""

    first: Flow
    second: Flow

    def update(self, gradient: Flow) -> "_Adam":
        first = 0.9 * self.first + 0.1 * gradient
        return _Adam(first, 0.999 * self.second + 0.001 * gradient.square())

    def compute_step(self, count: int) -> Flow:
        """The step after ``count`` gradients, about 1 in size."""
        mean, square = self.first / (1 - 0.9**count), self.second / (1 - 0.999**count)
        return mean / (square.sqrt() + 1e-8)


def warp(images: Images, flow: Flow) -> Images:
    """Each pixel is read ``flow`` pixels away, between four others; beyond the edge, from it."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)
    x = 2 * (columns + flow[:, 0]) / max(width - 1, 1) - 1
    y = 2 * (rows[:, None] + flow[:, 1]) / max(height - 1, 1) - 1
    grid = torch.stack([x, y], dim=3)
    return straight_through_clamp(
        F.grid_sample(images, grid, padding_mode="border", align_corners=True)
    )


def flow_total_variation(flow: Flow) -> BatchScalar:
    """``L_flow``, eq. 4: over neighbours, the distance between where they go, in pixels."""
    apart = [flow.diff(dim=2), flow.diff(dim=3)]
    far = [(d.square().sum(1) + SQRT_OFFSET**2).sqrt() - SQRT_OFFSET for d in apart]
    return torch.cat([d.flatten(1) for d in far], dim=1).sum(1)


def _flow_tv_gradient(flow: Flow) -> Flow:
    leaf = flow.detach().requires_grad_()
    with torch.enable_grad():
        total = flow_total_variation(leaf).sum()
    return torch.autograd.grad(total, leaf)[0]
