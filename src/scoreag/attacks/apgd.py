"""PGD that chooses its own step size and returns to its best point; Croce & Hein (2020)."""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import (
    EOT_WEIGHTINGS,
    LOSSES,
    NORM_BALLS,
    LossGradient,
    Objective,
    apply_perturbation,
    make_eot_weighting,
    top_k_wrong_classes,
    where_per_image,
)
from scoreag.attacks._search import init_active_set, init_best, run_sequentially
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels

MOMENTUM = 0.75  # alpha of the paper
RHO = 0.75  # the fraction of steps that must raise the loss, or the step size is halved


@dataclass(frozen=True)
class APGD(Attack):
    """APGD: ``restarts`` runs from random starts, or one toward each of the likeliest classes.

    Each run attacks only images that resisted the earlier ones, and returns for each the iterate
    with the largest margin.

    Args:
        steps: of each run; one gradient each.
        n_target_classes: number of target classes, one after the other, in descending order of
            their logits; 0: untargeted.
        restarts: from other random starts, for each target class.
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
        ranks = range(self.n_target_classes) if self.n_target_classes else [None]
        runs = [partial(self._run_once, rank=r) for _ in range(self.restarts) for r in ranks]
        return run_sequentially(
            runs, classifier, images, labels, noise, self.eot_samples, self.early_stop_draws
        )

    def _run_once(
        self,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        noise: Noise,
        rank: int | None,
    ) -> Images:
        """Algorithm 1, with step sizes for each image, toward its ``rank``-th wrong class."""
        targets = None
        if rank is not None:
            with torch.no_grad():
                likely = top_k_wrong_classes(classifier(images), labels, rank + 1)
            if likely.shape[1] <= rank:  # there are fewer classes
                return images
            targets = likely[:, rank]
        weighting = make_eot_weighting(self.eot_weighting, self.norm, self.eps)
        objective = Objective(
            classifier, labels, LOSSES[self.loss], self.eot_samples, weighting, targets
        )
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
    """The state of each image's run; step sizes are in radii of the ball."""

    point: Images
    previous: Images
    here: LossGradient
    best: Images
    best_here: LossGradient
    step_size: BatchScalar
    n_increases: BatchScalar  # since the last checkpoint
    last_checkpoint: tuple[BatchScalar, BatchScalar]  # the step size and the best loss there

    def take_step(self, images: Images, norm: str, eps: float, first: bool) -> "_State":
        """A full step, then a weighted sum of it and of the previous movement."""
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
        """Record the loss and the gradient at the current point."""
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
        """Halve the step size and return to the best point if the last ``steps`` gained little."""
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
    size, none = torch.full_like(here.loss, 2.0), torch.zeros_like(here.loss)
    return _State(point, point, here, point, here, size, none, (size, here.loss))
