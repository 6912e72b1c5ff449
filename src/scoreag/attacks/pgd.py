"""Projected gradient ascent on a loss, in an linf or l2 ball; Madry et al. (2018)."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from scoreag.attacks._common.active_set import init_active_set
from scoreag.attacks._common.eot_weighting import (
    EOT_WEIGHTINGS,
    make_eot_weighting,
    validate_eot_weighting,
)
from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import Objective, init_best
from scoreag.attacks._common.sequential import run_sequentially
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

RETURN_ITERATES = ("last", "best")


@suggest_option_names
@dataclass(frozen=True)
class PGD:
    """PGD from a random start in the ball.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 epsilon / steps.
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        keep: "last", the last iterate, as in the paper; or "best", for each image the iterate on
            which the likeliest wrong class is furthest ahead.
        restarts: from other starts, each for the images that still stand.
        draws: calls of the classifier that a gradient is the mean of; more than 1 for a defence
            that draws.
        stop: an image is left alone once it is misread in so many fresh draws, in each of them;
            0 never leaves one alone.
        weights: of the draws' gradients: "mean"; or "selective", those that one step can fool.
    """

    eps: float = 8 / 255
    steps: int = 40
    step_size: float | None = None
    norm: str = "Linf"
    loss: str = "ce"
    return_iterate: str = "last"
    restarts: int = 1
    eot_samples: int = 1
    early_stop_draws: int = 0
    eot_weighting: str = "mean"

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "restarts", "eot_samples")
        words: dict[str, Collection[str]]
        words = {
            "norm": NORM_BALLS,
            "loss": LOSSES,
            "return_iterate": [*RETURN_ITERATES],
            "eot_weighting": EOT_WEIGHTINGS,
        }
        validate_attack_options(
            self, positive=positive, ranges={"early_stop_draws": (0, math.inf)}, **words
        )
        validate_eot_weighting("pgd", self.eot_weighting, self.eot_samples)

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given, with a high loss at ``labels``."""
        if self.restarts == 1:
            return self._run_once(classifier, images, labels, noise)
        starts = [self._run_once] * self.restarts
        return run_sequentially(
            starts, classifier, images, labels, noise, self.eot_samples, self.early_stop_draws
        )

    def _run_once(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        ball = NORM_BALLS[self.norm]
        weigh = make_eot_weighting(self.eot_weighting, self.norm, self.eps)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples, weigh)
        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.eps
        adversarial = apply_perturbation(
            images, ball.random_start(images, noise.fold_in("pgd")), self.eps
        )
        best, standing = (
            init_best(images),
            init_active_set(objective, self.early_stop_draws, images),
        )
        for _ in range(self.steps):
            slope, standing = standing.loss_gradient(adversarial)
            if not standing.active.any():
                break
            if self.return_iterate == "best":
                best = best.update(adversarial, slope.margin)
            change = (adversarial - images) / self.eps + length * ball.steepest_ascent(
                slope.gradient
            )
            adversarial = apply_perturbation(images, ball.project(change), self.eps)
        if self.return_iterate == "last":
            return standing.merge_finished(adversarial)
        return standing.merge_finished(
            best.update(adversarial, standing.mean_margin(adversarial)).images
        )
