"""What a classifier tells an attacker: a loss, its gradient, and by how much it errs.

A randomised classifier draws afresh at each call; expectation over transformation (EOT; Athalye et
al. 2018) is then the mean over ``draws`` calls, of the loss, of its gradient and of the lead; the
gradients may be weighed otherwise.  Draws are one batch where the classifier has room for them.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoreag.core.rows import at_once, of_rows
from scoreag.core.types import Classifier, Images, Labels, Logits, PerImage
from scoreag.search.losses import Loss, LossTowards, margin
from scoreag.search.weights import Weigh, mean


@dataclass(frozen=True, eq=False)
class Slope:
    """The loss, its gradient, and the ``lead`` of the likeliest wrong class over the label.

    ``least`` is the lead at that of the draws where it is smallest: above 0, each of them errs.
    """

    gradient: Images
    value: PerImage
    lead: PerImage
    least: PerImage


@dataclass(frozen=True, eq=False)
class Objective:
    """A loss of a classifier at the labels of a batch.

    Args:
        targets: the class that each image is to become, where the loss wants one.
    """

    classifier: Classifier
    labels: Labels
    loss: Loss | LossTowards
    draws: int = 1
    weigh: Weigh = mean
    targets: Labels | None = None

    def of_rows(self, rows: list[int]) -> "Objective":
        """The same for some images of the batch."""
        part, labels = of_rows(self.classifier, rows), self.labels[rows]
        targets = None if self.targets is None else self.targets[rows]
        return replace(self, classifier=part, labels=labels, targets=targets)

    def slope(self, images: Images) -> Slope:
        """Of the sum, not the mean, over the batch: image i is none of image j's business."""
        size = at_once(self.classifier, images, self.draws)
        sizes = [min(size, self.draws - done) for done in range(0, self.draws, size)]
        parts = [part for many in sizes for part in self._slopes(images, many)]
        if self.draws == 1:
            return parts[0]
        values, leads = (torch.stack([getattr(p, n) for p in parts]) for n in ("value", "lead"))
        gradients = torch.stack([part.gradient for part in parts])
        return Slope(self.weigh(values, gradients), values.mean(0), leads.mean(0), leads.amin(0))

    def _slopes(self, images: Images, many: int) -> list[Slope]:
        """One of each of ``many`` draws, which are one batch: row i is there so many times."""
        part = self if many == 1 else self.of_rows([*range(len(images))] * many)
        leaf = images.repeat(many, 1, 1, 1).requires_grad_()
        with torch.enable_grad():
            logits = part.classifier(leaf)
            value = part.value(logits)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
        lead = margin(logits.detach(), part.labels)
        found = (part.chunk(many) for part in (gradient, value.detach(), lead, lead))
        return [Slope(*parts) for parts in zip(*found, strict=True)]

    def value(self, logits: Logits) -> PerImage:
        """The loss of each image."""
        aims = () if self.targets is None else (self.targets,)
        return self.loss(logits, self.labels, *aims)

    def lead(self, images: Images) -> PerImage:
        """By how much the likeliest wrong class is ahead of the label: above 0 it errs."""
        return torch.stack([self.once(images) for _ in range(self.draws)]).mean(0)

    @torch.no_grad()
    def once(self, images: Images) -> PerImage:
        """The lead at one draw."""
        return margin(self.classifier(images), self.labels)


@dataclass(frozen=True, eq=False)
class Best:
    """Of all that was offered, for each image what had the largest key."""

    images: Images
    key: PerImage

    def offered(self, images: Images, key: PerImage) -> "Best":
        better = key > self.key
        return replace(
            self, images=chosen(better, images, self.images), key=torch.where(better, key, self.key)
        )


def nothing_yet(images: Images) -> Best:
    """The images as they are, which anything is better than."""
    return Best(images, torch.full_like(images[:, 0, 0, 0], -torch.inf))


def chosen(which: Tensor, yes: Images, no: Images) -> Images:
    """For each image, one or the other."""
    return torch.where(which.view(-1, *(1,) * (yes.ndim - 1)), yes, no)
