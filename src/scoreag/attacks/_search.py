"""Search loops: gradient ascent, momentum, early stopping, and attacks one after the other.

An image is finished once fresh draws of the classifier err on it; then the classifier sees only the
active images. A defense of this library counts its draws row by row, so the result of an image
does not depend on which others are finished.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.attacks._objective import (
    LossGradient,
    Objective,
    apply_perturbation,
    margin,
    where_per_image,
)
from scoreag.core.batching import select_noise
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels
from scoreag.io.images import quantize_8bit

AttackFunction: TypeAlias = Callable[[Classifier, Images, Labels, Noise], Images]
Mask: TypeAlias = Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Best:
    """The candidate with the largest score so far, for each image."""

    images: Images
    score: BatchScalar

    def update(self, images: Images, score: BatchScalar) -> "Best":
        """Replace the images whose new score is larger."""
        better = score > self.score
        images = where_per_image(better, images, self.images)
        return Best(images, torch.where(better, score, self.score))


def init_best(images: Images) -> Best:
    """The original images with score -inf."""
    return Best(images, torch.full_like(images[:, 0, 0, 0], -torch.inf))


def ascend(
    objective: Objective,
    images: Images,
    start: Tensor,
    step: Callable[[Tensor, Images], Tensor],
    steps: int,
    render: Callable[[Tensor], Images] = lambda x: x,
    return_best: bool = True,
    early_stop_draws: int = 0,
) -> Images:
    """Iterate ``x <- step(x, gradient)``; for each image, the iterate with the largest margin.

    Args:
        render: iterate to images, at which the gradient is taken.
        return_best: else the last iterate is returned.
        early_stop_draws: as in ``ActiveSet``.
    """
    x, best = start, init_best(images)
    active_set = init_active_set(objective, early_stop_draws, images)
    for _ in range(steps):
        point = render(x)
        here, active_set = active_set.loss_gradient(point)
        if not active_set.active.any():
            break
        if return_best:
            best = best.update(point, here.margin)
        x = step(x, here.gradient)
    point = render(x)
    if return_best:
        point = best.update(point, active_set.mean_margin(point)).images
    return active_set.merge_finished(point)


def run_mi_fgsm(
    gradient: Callable[[Images, int], Images],
    images: Images,
    eps: float,
    steps: int,
    decay: float,
    nesterov: bool = False,
) -> Images:
    """``g <- decay g + grad / mean|grad|``, ``x <- x + eps / steps sign(g)``; Dong et al. (2018).

    Args:
        gradient: of the loss, from images and the number of the step.
        nesterov: take the gradient at ``x + eps / steps decay g``, not at ``x``.
    """
    step, point, velocity = eps / steps, images, torch.zeros_like(images)
    for i in range(steps):
        g = gradient(point + step * decay * velocity if nesterov else point, i)
        size = g.abs().flatten(1).mean(1).clamp(min=1e-30)[:, None, None, None]
        velocity = decay * velocity + g / size
        point = apply_perturbation(images, (point + step * velocity.sign() - images) / eps, eps)
    return point


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """An objective for the ``active`` images of a batch.

    Args:
        early_stop_draws: fresh draws that must all err to finish an image; 0 never stops early.
    """

    objective: Objective
    early_stop_draws: int
    active: Mask
    finished_images: Images

    def loss_gradient(self, images: Images) -> tuple[LossGradient, "ActiveSet"]:
        """Loss and gradient of active images, 0 elsewhere; and the set of those still active.

        Fresh draws are spent only on images on which every draw of the gradient errs.
        """
        rows, part = self._active_rows()
        here = part.loss_gradient(images[rows])
        scattered = LossGradient(*(_scatter_rows(x, self.active) for x in vars(here).values()))
        if not self.early_stop_draws:
            return scattered, self
        finished = torch.zeros_like(self.active)
        finished[rows] = find_misclassified(
            part, images[rows], self.early_stop_draws, here.min_margin > 0
        )
        images = where_per_image(finished, images, self.finished_images)
        return scattered, replace(self, active=self.active & ~finished, finished_images=images)

    def mean_margin(self, images: Images) -> BatchScalar:
        """The mean margin of active images, 0 elsewhere."""
        rows, part = self._active_rows()
        if not rows:
            return images[:, 0, 0, 0] * 0
        return _scatter_rows(part.mean_margin(images[rows]), self.active)

    def merge_finished(self, images: Images) -> Images:
        """``images`` where active, and the finished images elsewhere."""
        return where_per_image(self.active, images, self.finished_images)

    def _active_rows(self) -> tuple[list[int], Objective]:
        rows = _true_rows(self.active)
        all_active = len(rows) == len(self.active)
        return rows, self.objective if all_active else self.objective.select_rows(rows)


def init_active_set(objective: Objective, early_stop_draws: int, images: Images) -> ActiveSet:
    """The set in which every image is active."""
    active = torch.ones(len(images), dtype=torch.bool, device=images.device)
    return ActiveSet(objective, early_stop_draws, active, images)


def find_misclassified(
    objective: Objective, images: Images, n_draws: int, candidates: Mask
) -> Mask:
    """The candidates that are misclassified, rounded to 8 bits, in each of ``n_draws`` calls.

    An image that is classified correctly in one call is not part of the next.
    """
    wrong, rounded = candidates.clone(), quantize_8bit(images)
    for _ in range(n_draws):
        rows = _true_rows(wrong)
        if not rows:
            break
        wrong[rows] = objective.select_rows(rows).single_draw_margin(rounded[rows]) > 0
    return wrong


def _true_rows(mask: Mask) -> list[int]:
    rows: list[int] = mask.nonzero().flatten().tolist()
    return rows


def _scatter_rows(part: Tensor, mask: Mask) -> Tensor:
    """Put the rows of ``part`` where the mask is true, and zeros elsewhere."""
    if len(part) == len(mask):
        return part
    scattered = part.new_zeros(len(mask), *part.shape[1:])
    scattered[mask] = part
    return scattered


def run_sequentially(
    attacks: Iterable[AttackFunction],
    classifier: Classifier,
    images: Images,
    labels: Labels,
    noise: Noise,
    eot_samples: int = 1,
    early_stop_draws: int = 0,
) -> Images:
    """Run each attack on the images that resisted the earlier ones: restarts and ensembles.

    An attack succeeds if the classifier errs on the image, as floats and in 8 bits, in the mean
    over ``eot_samples`` calls; with ``early_stop_draws`` also in each of as many fresh calls. An
    image that is misclassified from the beginning does not change. If all attacks fail, the result
    is the one with the largest margin.
    """
    objective = Objective(classifier, labels, margin, eot_samples)
    margins, fooled = _evaluate(objective, images, early_stop_draws)
    best, active = images.clone(), ~fooled
    for i, attack in enumerate(attacks):
        rows = _true_rows(active)
        if not rows:
            break
        part = objective.select_rows(rows)
        perturbed = attack(
            part.classifier, images[rows], part.labels, select_noise(noise.fold_in("turn", i), rows)
        )
        new_margins, fooled = _evaluate(part, perturbed, early_stop_draws)
        better = fooled | (new_margins > margins[rows])
        best[rows] = where_per_image(better, perturbed, best[rows])
        margins[rows] = torch.where(better, new_margins, margins[rows])
        active[rows] = ~fooled
    return best


def _evaluate(
    objective: Objective, images: Images, early_stop_draws: int
) -> tuple[BatchScalar, Mask]:
    """The margin of each image, and whether it fools the classifier."""
    margins = objective.mean_margin(images)
    fooled = margins > 0
    if early_stop_draws:
        fooled = find_misclassified(objective, images, early_stop_draws, fooled)
    elif rows := _true_rows(fooled):  # only these rows use up draws
        fooled[rows] = objective.select_rows(rows).mean_margin(quantize_8bit(images)[rows]) > 0
    return margins, fooled
