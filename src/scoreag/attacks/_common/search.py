"""Searches: loops over iterates, images that need no more steps, and attacks one after the other.

An image is finished once the classifier errs on it in fresh draws; only active images are shown to
the classifier. A defense of this library counts its draws row by row, so the result of an image
does not depend on which others are finished.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.norms import apply_perturbation
from scoreag.attacks._common.objective import LossGradient, Objective, where_per_image
from scoreag.core.batching import select_noise
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels
from scoreag.methods.run_task import quantize_8bit

AttackFunction: TypeAlias = Callable[[Classifier, Images, Labels, Noise], Images]
Mask: TypeAlias = Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Best:
    """For each image the candidate with the largest score so far."""

    images: Images
    score: BatchScalar

    def update(self, images: Images, score: BatchScalar) -> "Best":
        better = score > self.score
        images = where_per_image(better, images, self.images)
        return Best(images, torch.where(better, score, self.score))


def init_best(images: Images) -> Best:
    """The images as they are, which any candidate replaces."""
    return Best(images, torch.full_like(images[:, 0, 0, 0], -torch.inf))


def find_best_iterate(
    objective: Objective,
    images: Images,
    start: Tensor,
    render: Callable[[Tensor], Images],
    step: Callable[[Tensor, Images], Tensor],
    steps: int,
) -> Images:
    """Of the iterates ``x <- step(x, gradient)``, for each image the one of largest margin.

    Args:
        render: the images of an iterate, at which the gradient is taken.
    """
    x, best = start, init_best(images)
    for _ in range(steps):
        point = render(x)
        here = objective.loss_gradient(point)
        best = best.update(point, here.margin)
        x = step(x, here.gradient)
    point = render(x)
    return best.update(point, objective.mean_margin(point)).images


def run_mi_fgsm(
    gradient: Callable[[Images, int], Images],
    images: Images,
    eps: float,
    steps: int,
    decay: float,
    nesterov: bool = False,
) -> Images:
    """``g <- decay g + grad / mean|grad|``, ``x <- x + eps / steps sign(g)``; Dong et al. (2018).

    After ``steps`` steps the Linf ball is just used up.

    Args:
        gradient: of the loss, at some images and in a step.
        nesterov: take the gradient where the momentum leads to, not where the iterate is.
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
        early_stop_draws: fresh draws, all of which must err to finish an image; 0 never does.
    """

    objective: Objective
    early_stop_draws: int
    active: Mask
    finished_images: Images

    def loss_gradient(self, images: Images) -> tuple[LossGradient, "ActiveSet"]:
        """That of active images, 0 elsewhere; and what is active after that.

        Fresh draws are spent only on images that every draw of the gradient misread.
        """
        rows, part = self._active_rows()
        here = part.loss_gradient(images[rows])
        scattered = LossGradient(
            *(_scatter_rows(each, self.active) for each in vars(here).values())
        )
        if not self.early_stop_draws:
            return scattered, self
        finished = torch.zeros_like(self.active)
        finished[rows] = find_misclassified(
            part, images[rows], self.early_stop_draws, here.min_margin > 0
        )
        images = where_per_image(finished, images, self.finished_images)
        return scattered, replace(self, active=self.active & ~finished, finished_images=images)

    def mean_margin(self, images: Images) -> BatchScalar:
        """That of active images; 0 elsewhere."""
        rows, part = self._active_rows()
        if not rows:
            return images[:, 0, 0, 0] * 0
        return _scatter_rows(part.mean_margin(images[rows]), self.active)

    def merge_finished(self, images: Images) -> Images:
        """``images``, except those that were finished before."""
        return where_per_image(self.active, images, self.finished_images)

    def _active_rows(self) -> tuple[list[int], Objective]:
        rows: list[int] = self.active.nonzero().flatten().tolist()
        everything = len(rows) == len(self.active)
        return rows, self.objective if everything else self.objective.select_rows(rows)


def init_active_set(objective: Objective, early_stop_draws: int, images: Images) -> ActiveSet:
    """Every image is active before a search."""
    active = torch.ones(len(images), dtype=torch.bool, device=images.device)
    return ActiveSet(objective, early_stop_draws, active, images)


def find_misclassified(
    objective: Objective, images: Images, n_draws: int, candidates: Mask
) -> Mask:
    """Which of the candidates are misread, in 8 bits, in each of ``n_draws`` calls.

    One that is read right in a call is not shown in the next.
    """
    wrong, saved = candidates.clone(), quantize_8bit(images)
    for _ in range(n_draws):
        rows: list[int] = wrong.nonzero().flatten().tolist()
        if not rows:
            break
        wrong[rows] = objective.select_rows(rows).single_draw_margin(saved[rows]) > 0
    return wrong


def _scatter_rows(part: Tensor, mask: Mask) -> Tensor:
    """Rows put where the mask is, among rows of zeros."""
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
    """Each attack on the images that those before it left right: restarts and ensembles.

    An image is finished once the classifier errs on it, as floats and in 8 bits, in the mean over
    ``eot_samples`` calls; with ``early_stop_draws`` also in each of as many fresh calls. One that
    is misread from the beginning stays as it is; of failures, the one of largest margin counts.
    """
    objective = Objective(classifier, labels, margin, eot_samples)
    state = _evaluate(objective, images, early_stop_draws)
    for i, attack in enumerate(attacks):
        rows = state.active.nonzero().flatten().tolist()
        if not rows:
            break
        part = objective.select_rows(rows)
        turn = select_noise(noise.fold_in("turn", i), rows)
        perturbed = attack(part.classifier, images[rows], part.labels, turn)
        state = state.update_rows(rows, _evaluate(part, perturbed, early_stop_draws))
    return state.images


@dataclass(frozen=True, eq=False)
class _SequenceState:
    images: Images
    margin: BatchScalar
    active: Tensor

    def update_rows(self, rows: list[int], update: "_SequenceState") -> "_SequenceState":
        """The results for ``rows``, where they fool the classifier or come nearer to it."""
        better = ~update.active | (update.margin > self.margin[rows])
        images, margins, active = self.images.clone(), self.margin.clone(), self.active.clone()
        images[rows] = where_per_image(better, update.images, images[rows])
        margins[rows] = torch.where(better, update.margin, margins[rows])
        active[rows] = update.active
        return _SequenceState(images, margins, active)


def _evaluate(objective: Objective, images: Images, early_stop_draws: int) -> _SequenceState:
    margins = objective.mean_margin(images)
    fooled = margins > 0
    if early_stop_draws:
        fooled = find_misclassified(objective, images, early_stop_draws, fooled)
    elif rows := fooled.nonzero().flatten().tolist():  # the draws of others are not used up
        fooled[rows] = objective.select_rows(rows).mean_margin(quantize_8bit(images)[rows]) > 0
    return _SequenceState(images, margins, ~fooled)
