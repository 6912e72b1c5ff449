"""PGD that chooses its own step size and returns to its best point; Croce & Hein (2020)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.losses import LOSSES, TARGETED_LOSSES, top_k_wrong_classes
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import (
    EOT_WEIGHTINGS,
    LossGradient,
    Objective,
    make_eot_weighting,
    where_per_image,
)
from scoreag.attacks._common.search import (
    AttackFunction,
    init_active_set,
    init_best,
    run_sequentially,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels

MOMENTUM = 0.75  # alpha of the paper
RHO = 0.75  # the fraction of steps that must raise the loss, or the step size is halved


@dataclass(frozen=True)
class APGD(Attack):
    """APGD: ``restarts`` runs from random starts, or one towards each of the likeliest classes.

    Each run sees only the images that earlier ones left right, and returns for each the iterate on
    which the likeliest wrong class is furthest ahead.

    Args:
        eps: radius of the ball, pixels in [0, 1].
        steps: of each run; a gradient each.
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        n_target_classes: how many classes are targets, one after the other, from the likeliest
            wrong one on; 0: untargeted.
        restarts: from other starts; of each target, where there are targets.
        eot_samples: calls of the classifier that a gradient is the mean of; more than 1 for a
            randomized defense.
        early_stop_draws: an image is finished once so many fresh draws all misread it; 0 never
            stops early within a run.
        eot_weighting: of the draws' gradients: "mean"; or "selective", for those that one step can
            fool.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(100, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    n_target_classes: int = option(0, low=0, high=1000)
    restarts: int = option(1, above=0)
    eot_samples: int = option(1, above=0)
    early_stop_draws: int = option(0, low=0)
    eot_weighting: str = option("mean", among=EOT_WEIGHTINGS)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        return run_sequentially(
            self._runs(), classifier, images, labels, noise, self.eot_samples, self.early_stop_draws
        )

    def _runs(self) -> Iterator[AttackFunction]:
        for _ in range(self.restarts):
            if not self.n_target_classes:
                yield self._run_once
            for rank in range(self.n_target_classes):
                yield partial(self._run_targeted, rank)

    def _run_targeted(
        self, rank: int, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Towards each image's ``rank``-th likeliest wrong class."""
        with torch.no_grad():
            likely = top_k_wrong_classes(classifier(images), labels, rank + 1)
        if likely.shape[1] <= rank:  # the classifier knows no further class
            return images
        return self._run_once(classifier, images, labels, noise, likely[:, rank])

    def _run_once(
        self,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        noise: Noise,
        targets: Labels | None = None,
    ) -> Images:
        """Algorithm 1 of the paper; each image has its own step sizes."""
        weighting = make_eot_weighting(self.eot_weighting, self.norm, self.eps)
        loss = (LOSSES if targets is None else TARGETED_LOSSES)[self.loss]
        objective = Objective(classifier, labels, loss, self.eot_samples, weighting, targets)
        start = NORM_BALLS[self.norm].random_start(images, noise.fold_in("apgd"))
        point = apply_perturbation(images, start, self.eps)
        active_set = init_active_set(objective, self.early_stop_draws, images)
        here, active_set = active_set.loss_gradient(point)
        best = init_best(images).update(point, here.margin)
        state = _init_state(point, here)
        checkpoints = compute_checkpoints(self.steps)
        for k in range(1, self.steps + 1):
            state = state.take_step(images, self.norm, self.eps, first=k == 1)
            if k == self.steps or not active_set.active.any():
                break
            here, active_set = active_set.loss_gradient(state.point)
            best = best.update(state.point, here.margin)
            state = state.update(here)
            if k in checkpoints:
                state = state.halve_if_stalled(k - max(c for c in checkpoints if c < k))
        best = best.update(state.point, active_set.mean_margin(state.point))
        return active_set.merge_finished(best.images)


def compute_checkpoints(steps: int) -> list[int]:
    """``ceil(p_j steps)``: p_0 = 0, p_1 = 0.22, ``p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)``."""
    p, gap = [0.0, 0.22], 0.22
    while p[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        p.append(p[-1] + gap)
    return sorted({math.ceil(round(each * steps, 9)) for each in p if each <= 1})


@dataclass(frozen=True, eq=False)
class _State:
    """Where each image is in its run; step sizes are in radii of the ball."""

    point: Images
    previous: Images
    here: LossGradient
    best: Images
    best_here: LossGradient
    step_size: BatchScalar
    n_increases: BatchScalar  # since the last checkpoint
    last_checkpoint: tuple[BatchScalar, BatchScalar]  # the step size and the best loss there

    def take_step(self, images: Images, norm: str, eps: float, first: bool) -> "_State":
        """A step of full size, then a fraction of it and of the last movement."""
        ball = NORM_BALLS[norm]

        def project(point: Images) -> Images:
            return apply_perturbation(images, ball.project((point - images) / eps), eps)

        length = eps * self.step_size[:, None, None, None]
        ahead = project(self.point + length * ball.steepest_ascent(self.here.gradient))
        if not first:
            carried = (1 - MOMENTUM) * (self.point - self.previous)
            ahead = project(self.point + MOMENTUM * (ahead - self.point) + carried)
        return replace(self, point=ahead, previous=self.point)

    def update(self, here: LossGradient) -> "_State":
        """Take note of the loss and the gradient at the present point."""
        increased = (here.loss > self.here.loss).to(self.n_increases)
        better = here.loss > self.best_here.loss
        return replace(
            self,
            here=here,
            best=where_per_image(better, self.point, self.best),
            best_here=here.where(better, self.best_here),
            n_increases=self.n_increases + increased,
        )

    def halve_if_stalled(self, steps: int) -> "_State":
        """Halve the step and return to the best point if the last ``steps`` did too little."""
        step_size, best_loss = self.last_checkpoint
        unchanged = (self.step_size == step_size) & (self.best_here.loss == best_loss)
        halve = (self.n_increases < RHO * steps) | unchanged
        return replace(
            self,
            point=where_per_image(halve, self.best, self.point),
            here=self.best_here.where(halve, self.here),
            step_size=torch.where(halve, self.step_size / 2, self.step_size),
            n_increases=torch.zeros_like(self.n_increases),
            last_checkpoint=(self.step_size, self.best_here.loss),
        )


def _init_state(point: Images, here: LossGradient) -> _State:
    step_size = torch.full_like(here.loss, 2.0)
    n_increases = torch.zeros_like(step_size)
    return _State(
        point, point, here, point, here, step_size, n_increases, (step_size, here.loss)
    )  # fmt: skip
