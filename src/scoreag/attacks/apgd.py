"""PGD that chooses its own step size, and goes back to its best point; Croce & Hein (2020)."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from scoreag.attacks._common.active_set import init_active_set
from scoreag.attacks._common.eot_weighting import (
    EOT_WEIGHTINGS,
    make_eot_weighting,
    validate_eot_weighting,
)
from scoreag.attacks._common.losses import LOSSES, TARGETED_LOSSES, top_k_wrong_classes
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import LossGradient, Objective, init_best, where_per_image
from scoreag.attacks._common.sequential import AttackFunction, run_sequentially
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels

MOMENTUM = 0.75  # alpha of the paper
RHO = 0.75  # rho: the share of steps that must raise the loss, or the step size is halved


@suggest_option_names
@dataclass(frozen=True)
class APGD:
    """APGD: ``restarts`` runs from random starts, or one towards each of the likeliest classes.

    Each run goes on with the images that the ones before left standing, and gives for each the
    iterate on which the likeliest wrong class is furthest ahead.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        steps: of each run; a gradient each.
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        targets: how many classes are aimed at, one after the other, from the likeliest wrong one
            on; 0 aims at none.
        restarts: from other starts; of each target, where there are targets.
        draws: calls of the classifier that a gradient is the mean of; more than 1 for a defence
            that draws.
        stop: an image is left alone once it is misread in so many fresh draws, in each of them;
            0 never leaves one alone within a run.
        weights: of the draws' gradients: "mean"; or "selective", those that one step can fool.
    """

    eps: float = 8 / 255
    steps: int = 100
    norm: str = "Linf"
    loss: str = "ce"
    n_target_classes: int = 0
    restarts: int = 1
    eot_samples: int = 1
    early_stop_draws: int = 0
    eot_weighting: str = "mean"

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "restarts", "eot_samples")
        words: dict[str, Collection[str]]
        words = {"norm": NORM_BALLS, "loss": LOSSES, "eot_weighting": EOT_WEIGHTINGS}
        ranges = {"n_target_classes": (0, 1000), "early_stop_draws": (0, math.inf)}
        validate_attack_options(self, positive=positive, ranges=ranges, **words)
        validate_eot_weighting("apgd", self.eot_weighting, self.eot_samples)

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        runs = self.build_runs()
        return run_sequentially(
            runs, classifier, images, labels, noise, self.eot_samples, self.early_stop_draws
        )

    def build_runs(self) -> Iterator[AttackFunction]:
        """The runs, in their order."""
        for _ in range(self.restarts):
            if not self.n_target_classes:
                yield self._untargeted
            for place in range(self.n_target_classes):
                yield partial(self._targeted, place)

    def _untargeted(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        return self._run(classifier, images, labels, noise)

    def _targeted(
        self, rank: int, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Towards the wrong class that is the ``place``-th likeliest of the image given."""
        with torch.no_grad():
            likely = top_k_wrong_classes(classifier(images), labels, rank + 1)
        if likely.shape[1] <= rank:  # the classifier knows no further class
            return images
        return self._run(classifier, images, labels, noise, likely[:, rank])

    def _run(
        self,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        noise: Noise,
        targets: Labels | None = None,
    ) -> Images:
        """Algorithm 1 of the paper; a run leaves every image of its batch to itself."""
        weigh = make_eot_weighting(self.eot_weighting, self.norm, self.eps)
        loss = (LOSSES if targets is None else TARGETED_LOSSES)[self.loss]
        objective = Objective(classifier, labels, loss, self.eot_samples, weigh, targets)
        start = NORM_BALLS[self.norm].random_start(images, noise.fold_in("apgd"))
        point = apply_perturbation(images, start, self.eps)
        slope, standing = init_active_set(objective, self.early_stop_draws, images).loss_gradient(
            point
        )
        worst = init_best(images).update(point, slope.margin)
        state = _RunState.initialize(point, slope)
        turns = compute_checkpoints(self.steps)
        for k in range(1, self.steps + 1):
            state = state.take_step(images, self.norm, self.eps, first=k == 1)
            if k == self.steps or not standing.active.any():
                break
            slope, standing = standing.loss_gradient(state.point)
            worst = worst.update(state.point, slope.margin)
            state = state.update(slope)
            if k in turns:
                state = state.halve_if_stalled(k - max(t for t in turns if t < k))
        return standing.merge_finished(
            worst.update(state.point, standing.mean_margin(state.point)).images
        )


def compute_checkpoints(steps: int) -> list[int]:
    """``ceil(p_j steps)``: p_0 = 0, p_1 = 0.22, ``p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)``."""
    shares, gap = [0.0, 0.22], 0.22
    while shares[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    return sorted({math.ceil(round(share * steps, 9)) for share in shares if share <= 1})


@dataclass(frozen=True, eq=False)
class _RunState:
    """Where each image is in its run; step sizes in radii of the ball."""

    point: Images
    previous: Images
    loss_gradient: LossGradient
    best: Images
    best_loss_gradient: LossGradient
    step_size: BatchScalar
    n_increases: BatchScalar  # since the last checkpoint
    last_checkpoint: tuple[BatchScalar, BatchScalar]  # the step size and the best value there

    @classmethod
    def initialize(cls, point: Images, loss_gradient: LossGradient) -> "_RunState":
        step = torch.full_like(loss_gradient.loss, 2.0)
        rises = torch.zeros_like(step)
        return cls(
            point,
            point,
            loss_gradient,
            point,
            loss_gradient,
            step,
            rises,
            (step, loss_gradient.loss),
        )

    def take_step(self, images: Images, norm: str, eps: float, first: bool) -> "_RunState":
        """A step of its size, then a share of it and of the last movement."""
        ball = NORM_BALLS[norm]

        def project(point: Images) -> Images:
            return apply_perturbation(images, ball.project((point - images) / eps), eps)

        length = eps * self.step_size[:, None, None, None]
        ahead = project(self.point + length * ball.steepest_ascent(self.loss_gradient.gradient))
        if not first:
            carried = (1 - MOMENTUM) * (self.point - self.previous)
            ahead = project(self.point + MOMENTUM * (ahead - self.point) + carried)
        return replace(self, point=ahead, previous=self.point)

    def update(self, loss_gradient: LossGradient) -> "_RunState":
        rises = self.n_increases + (loss_gradient.loss > self.loss_gradient.loss).to(
            self.n_increases
        )
        better = loss_gradient.loss > self.best_loss_gradient.loss
        return replace(
            self,
            loss_gradient=loss_gradient,
            best=where_per_image(better, self.point, self.best),
            best_loss_gradient=_where_loss_gradient(better, loss_gradient, self.best_loss_gradient),
            n_increases=rises,
        )

    def halve_if_stalled(self, steps: int) -> "_RunState":
        """Halve the step and go back to the best point, where the last ``steps`` did too little."""
        step, value = self.last_checkpoint
        stuck = (self.step_size == step) & (self.best_loss_gradient.loss == value)
        halve = (self.n_increases < RHO * steps) | stuck
        return replace(
            self,
            point=where_per_image(halve, self.best, self.point),
            loss_gradient=_where_loss_gradient(halve, self.best_loss_gradient, self.loss_gradient),
            step_size=torch.where(halve, self.step_size / 2, self.step_size),
            n_increases=torch.zeros_like(self.n_increases),
            last_checkpoint=(self.step_size, self.best_loss_gradient.loss),
        )


def _where_loss_gradient(mask: Tensor, yes: LossGradient, no: LossGradient) -> LossGradient:
    return LossGradient(
        where_per_image(mask, yes.gradient, no.gradient),
        torch.where(mask, yes.loss, no.loss),
        torch.where(mask, yes.margin, no.margin),
        torch.where(mask, yes.min_margin, no.min_margin),
    )
