"""The loss that an attack raises, its gradient, and the margin by which a classifier errs.

A randomized classifier draws afresh at each call. Expectation over transformation (EOT; Athalye et
al. 2018) takes the mean over several calls of loss, gradient and margin; gradients may be weighted
otherwise. Draws are one batch where the classifier has room for them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._common.losses import Loss, TargetedLoss, margin
from scoreag.attacks._common.norms import NORM_BALLS, NormBall
from scoreag.core.batching import draws_per_batch, select_rows
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits

DrawLosses: TypeAlias = Float[Tensor, "draws batch"]
DrawGradients: TypeAlias = Float[Tensor, "draws batch channels height width"]
EotWeighting: TypeAlias = Callable[[DrawLosses, DrawGradients], Images]

EOT_WEIGHTINGS = ("mean", "selective")
FRANK_WOLFE_STEPS = 10  # of the search for the step that fools most draws


@dataclass(frozen=True, eq=False)
class LossGradient:
    """Loss, gradient, and the margin of the likeliest wrong class over the label.

    ``min_margin`` is that of the draw where it is smallest: above 0, every draw errs.
    """

    gradient: Images
    loss: BatchScalar
    margin: BatchScalar
    min_margin: BatchScalar

    def where(self, mask: Tensor, other: "LossGradient") -> "LossGradient":
        """For each image this one, or the other."""
        parts = zip(vars(self).values(), vars(other).values(), strict=True)
        return LossGradient(*(where_per_image(mask, mine, its) for mine, its in parts))


def average_gradients(draw_losses: DrawLosses, gradients: DrawGradients) -> Images:
    """``sum_i g_i / n``: expectation over transformation."""
    return gradients.mean(0)


@dataclass(frozen=True, eq=False)
class Objective:
    """A loss of a classifier at the labels of a batch, or at ``targets`` if the loss wants them."""

    classifier: Classifier
    labels: Labels
    loss: Loss | TargetedLoss
    eot_samples: int = 1
    combine_gradients: EotWeighting = average_gradients
    targets: Labels | None = None

    def select_rows(self, rows: list[int]) -> "Objective":
        """The same for some images of the batch."""
        part, labels = select_rows(self.classifier, rows), self.labels[rows]
        targets = None if self.targets is None else self.targets[rows]
        return replace(self, classifier=part, labels=labels, targets=targets)

    def loss_gradient(self, images: Images) -> LossGradient:
        """Of the sum, not the mean, over the batch, so that no image's depends on another."""
        size = draws_per_batch(self.classifier, images, self.eot_samples)
        sizes = [min(size, self.eot_samples - done) for done in range(0, self.eot_samples, size)]
        draws = [draw for n_draws in sizes for draw in self._draw_gradients(images, n_draws)]
        if self.eot_samples == 1:
            return draws[0]
        losses, margins = (torch.stack([getattr(d, n) for d in draws]) for n in ("loss", "margin"))
        gradient = self.combine_gradients(losses, torch.stack([draw.gradient for draw in draws]))
        return LossGradient(gradient, losses.mean(0), margins.mean(0), margins.amin(0))

    def _draw_gradients(self, images: Images, n_draws: int) -> list[LossGradient]:
        """One of each draw; they are one batch, in which each row appears ``n_draws`` times."""
        part = self if n_draws == 1 else self.select_rows([*range(len(images))] * n_draws)
        leaf = images.repeat(n_draws, 1, 1, 1).requires_grad_()
        with torch.enable_grad():
            logits = part.classifier(leaf)
            loss = part.loss_values(logits)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        margins = margin(logits.detach(), part.labels)
        draws = (each.chunk(n_draws) for each in (gradient, loss.detach(), margins, margins))
        return [LossGradient(*parts) for parts in zip(*draws, strict=True)]

    def loss_values(self, logits: Logits) -> BatchScalar:
        """The loss of each image."""
        targets = () if self.targets is None else (self.targets,)
        return self.loss(logits, self.labels, *targets)

    def mean_margin(self, images: Images) -> BatchScalar:
        """Of the likeliest wrong class over the label: above 0 the classifier errs."""
        draws = [self.single_draw_margin(images) for _ in range(self.eot_samples)]
        return torch.stack(draws).mean(0)

    @torch.no_grad()
    def single_draw_margin(self, images: Images) -> BatchScalar:
        """The margin at one draw."""
        return margin(self.classifier(images), self.labels)


def where_per_image(mask: Tensor, if_true: Tensor, if_false: Tensor) -> Tensor:
    """For each image, one or the other."""
    return torch.where(mask.view(-1, *(1,) * (if_true.ndim - 1)), if_true, if_false)


def make_eot_weighting(eot_weighting: str, norm: str, eps: float) -> EotWeighting:
    """How gradients of several draws become one, by name, in a ball of radius ``eps``."""
    if eot_weighting == "mean":
        return average_gradients
    return partial(weight_selectively, NORM_BALLS[norm], eps)


def weight_selectively(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> Images:
    """``sum_i q_i g_i / sum_i q_i``: draws that one and the same step can fool count most.

    ``q_i = s(L_i + d . g_i)`` with the logistic function s, where d is the step in the ball that
    raises ``sum_i s(L_i + d . g_i)`` most; Wang et al. (2024, DiffHammer), eq. 9, to first order.
    DiffBreak (2411.16598) finds no advantage over the mean once gradients are exact.
    """
    q = selection_probabilities(ball, eps, draw_losses, gradients)
    return _weighted_sum(q, gradients) / _expand_to_images(q).sum(0)


def selection_probabilities(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> DrawLosses:
    """``q``, the best of: full Frank-Wolfe steps (1956) from d = 0, and a step along the mean."""

    def probabilities(direction: Images) -> DrawLosses:
        step = eps * ball.steepest_ascent(direction)
        return torch.sigmoid(draw_losses + (gradients * step).flatten(2).sum(2))

    best, q = probabilities(gradients.mean(0)), torch.sigmoid(draw_losses)
    for _ in range(FRANK_WOLFE_STEPS):
        q = probabilities(_weighted_sum(q * (1 - q), gradients))
        best = torch.where(q.sum(0) > best.sum(0), q, best)
    return best


def _weighted_sum(weights: DrawLosses, gradients: DrawGradients) -> Images:
    return (_expand_to_images(weights) * gradients).sum(0)


def _expand_to_images(weights: DrawLosses) -> Tensor:
    return weights[..., None, None, None]
