"""Pixels that move instead of changing color, by a smooth flow: stAdv, Xiao et al. (2018)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import Objective, margin, straight_through_clamp
from scoreag.attacks._search import Best, init_best
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits

Flow = Float[Tensor, "batch 2 height width"]  # to the right and down, in pixels
UNFOOLED_SMOOTHNESS = 0.1  # factor of the smoothness weight while the classifier is right
SQRT_OFFSET = 1e-6  # pixels; gives the root a slope where the flow is constant


@dataclass(frozen=True)
class StAdv(Attack):
    """The smoothest flow that fools the classifier, by Adam; deterministic.

    The loss is ``max(z_y - max_{i != y} z_i, -confidence) + smoothness L_flow``, with a tenth of
    the smoothness while the classifier is right. Returns the smoothest iterate that fools it, else
    the one with the largest margin.

    Args:
        max_displacement: of a pixel in each direction, in pixels.
        step_size: of Adam, in pixels.
        smoothness: the weight of L_flow, tau of the paper.
        confidence: the margin in logits at which the loss saturates.
    """

    max_displacement: float = option(2.0, above=0)
    steps: int = option(100, above=0)
    step_size: float = option(0.05, above=0)
    smoothness: float = option(0.05, low=0)
    confidence: float = option(0.5, low=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1], each a resampling of the original."""

        def loss(logits: Logits, labels: Labels) -> BatchScalar:
            return margin(logits, labels).clamp(max=self.confidence)

        flow = images.new_zeros(len(images), 2, *images.shape[-2:])
        objective = Objective(lambda f: classifier(warp(images, f)), labels, loss, self.eot_samples)
        first, second, best = torch.zeros_like(flow), torch.zeros_like(flow), init_best(images)
        for i in range(1, self.steps + 1):
            here = objective.loss_gradient(flow)
            best = self._update_best(best, images, flow, here.margin)
            tau = self.smoothness
            weight = torch.where(here.margin > 0, tau, tau * UNFOOLED_SMOOTHNESS)
            weight = weight.to(flow)[:, None, None, None]
            ascent = here.gradient - weight * _flow_tv_gradient(flow)
            first = 0.9 * first + 0.1 * ascent  # Adam: Kingma & Ba (2015)
            second = 0.999 * second + 0.001 * ascent.square()
            scale = (second / (1 - 0.999**i)).sqrt() + 1e-8
            flow = flow + self.step_size * (first / (1 - 0.9**i) / scale)
            flow = flow.clamp(-self.max_displacement, self.max_displacement)
        return self._update_best(best, images, flow, objective.mean_margin(flow)).images

    def _update_best(self, best: Best, images: Images, flow: Flow, margins: BatchScalar) -> Best:
        """Score flows that fool above 0, the smoother the higher."""
        score = torch.where(margins > 0, 1 / (1 + flow_total_variation(flow)), margins)
        return best.update(warp(images, flow), score)


def warp(images: Images, flow: Flow) -> Images:
    """Read each pixel ``flow`` pixels away, by bilinear interpolation; the edge is repeated."""
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
    """``L_flow``, eq. 4: the distances between displacements of neighbors, in pixels."""
    differences = [flow.diff(dim=2), flow.diff(dim=3)]
    norms = [(d.square().sum(1) + SQRT_OFFSET**2).sqrt() - SQRT_OFFSET for d in differences]
    return torch.cat([norm.flatten(1) for norm in norms], dim=1).sum(1)


def _flow_tv_gradient(flow: Flow) -> Flow:
    leaf = flow.detach().requires_grad_()
    with torch.enable_grad():
        total = flow_total_variation(leaf).sum()
    return torch.autograd.grad(total, leaf)[0]
