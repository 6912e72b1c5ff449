"""What a classifier tells an attacker: a loss, its gradient, and by how much it errs.

A randomised classifier draws afresh at each call; expectation over transformation (EOT; Athalye et
al. 2018) is then the mean over ``draws`` calls, of the loss, of its gradient and of the lead; the
gradients may be weighed otherwise.  Draws are one batch where the classifier has room for them.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoreag.attacks._common.eot_weighting import EotWeighting, average_gradients
from scoreag.attacks._common.losses import Loss, TargetedLoss, margin
from scoreag.core.batching import draws_per_batch, select_rows
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits


@dataclass(frozen=True, eq=False)
class LossGradient:
    """The loss, its gradient, and the ``lead`` of the likeliest wrong class over the label.

    ``least`` is the lead at that of the draws where it is smallest: above 0, each of them errs.
    """

    gradient: Images
    loss: BatchScalar
    margin: BatchScalar
    min_margin: BatchScalar


@dataclass(frozen=True, eq=False)
class Objective:
    """A loss of a classifier at the labels of a batch.

    Args:
        targets: the class that each image is to become, where the loss wants one.
    """

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
        """Of the sum, not the mean, over the batch: image i is none of image j's business."""
        size = draws_per_batch(self.classifier, images, self.eot_samples)
        sizes = [min(size, self.eot_samples - done) for done in range(0, self.eot_samples, size)]
        parts = [part for many in sizes for part in self._draw_gradients(images, many)]
        if self.eot_samples == 1:
            return parts[0]
        values, leads = (torch.stack([getattr(p, n) for p in parts]) for n in ("loss", "margin"))
        gradients = torch.stack([part.gradient for part in parts])
        return LossGradient(
            self.combine_gradients(values, gradients), values.mean(0), leads.mean(0), leads.amin(0)
        )

    def _draw_gradients(self, images: Images, n_draws: int) -> list[LossGradient]:
        """One of each of ``many`` draws, which are one batch: row i is there so many times."""
        part = self if n_draws == 1 else self.select_rows([*range(len(images))] * n_draws)
        leaf = images.repeat(n_draws, 1, 1, 1).requires_grad_()
        with torch.enable_grad():
            logits = part.classifier(leaf)
            value = part.loss_values(logits)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        lead = margin(logits.detach(), part.labels)
        found = (part.chunk(n_draws) for part in (gradient, value.detach(), lead, lead))
        return [LossGradient(*parts) for parts in zip(*found, strict=True)]

    def loss_values(self, logits: Logits) -> BatchScalar:
        """The loss of each image."""
        aims = () if self.targets is None else (self.targets,)
        return self.loss(logits, self.labels, *aims)

    def mean_margin(self, images: Images) -> BatchScalar:
        """By how much the likeliest wrong class is ahead of the label: above 0 it errs."""
        return torch.stack([self.single_draw_margin(images) for _ in range(self.eot_samples)]).mean(
            0
        )

    @torch.no_grad()
    def single_draw_margin(self, images: Images) -> BatchScalar:
        """The lead at one draw."""
        return margin(self.classifier(images), self.labels)


@dataclass(frozen=True, eq=False)
class Best:
    """Of all that was offered, for each image what had the largest key."""

    images: Images
    score: BatchScalar

    def update(self, images: Images, score: BatchScalar) -> "Best":
        better = score > self.score
        return replace(
            self,
            images=where_per_image(better, images, self.images),
            score=torch.where(better, score, self.score),
        )


def init_best(images: Images) -> Best:
    """The images as they are, which anything is better than."""
    return Best(images, torch.full_like(images[:, 0, 0, 0], -torch.inf))


def where_per_image(mask: Tensor, if_true: Images, if_false: Images) -> Images:
    """For each image, one or the other."""
    return torch.where(mask.view(-1, *(1,) * (if_true.ndim - 1)), if_true, if_false)
