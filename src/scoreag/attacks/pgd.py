"""Projected gradient ascent on a loss, in an Linf or L2 ball; Madry et al. (2018)."""

from dataclasses import dataclass

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import (
    EOT_WEIGHTINGS,
    Objective,
    make_eot_weighting,
)
from scoreag.attacks._common.search import init_active_set, init_best, run_sequentially
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class PGD(Attack):
    """PGD from a random start in the ball.

    Args:
        eps: radius of the ball, pixels in [0, 1].
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 eps / steps.
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        return_iterate: "last", as in the paper; or "best", for each image the iterate on which the
            likeliest wrong class is furthest ahead.
        restarts: from other starts, each for the images that are still read right.
        eot_samples: calls of the classifier that a gradient is the mean of; more than 1 for a
            randomized defense.
        early_stop_draws: an image is finished once so many fresh draws all misread it; 0 never
            stops early.
        eot_weighting: of the draws' gradients: "mean"; or "selective", for those that one step can
            fool.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(40, above=0)
    step_size: float | None = None
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    return_iterate: str = option("last", among=("last", "best"))
    restarts: int = option(1, above=0)
    eot_samples: int = option(1, above=0)
    early_stop_draws: int = option(0, low=0)
    eot_weighting: str = option("mean", among=EOT_WEIGHTINGS)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals, with a high loss at ``labels``."""
        if self.restarts == 1:
            return self._run_once(classifier, images, labels, noise)
        return run_sequentially(
            [self._run_once] * self.restarts,
            classifier, images, labels, noise, self.eot_samples, self.early_stop_draws,
        )  # fmt: skip

    def _run_once(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        ball = NORM_BALLS[self.norm]
        weighting = make_eot_weighting(self.eot_weighting, self.norm, self.eps)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples, weighting)
        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.eps
        start = ball.random_start(images, noise.fold_in("pgd"))
        x, best = apply_perturbation(images, start, self.eps), init_best(images)
        active_set = init_active_set(objective, self.early_stop_draws, images)
        for _ in range(self.steps):
            here, active_set = active_set.loss_gradient(x)
            if not active_set.active.any():
                break
            if self.return_iterate == "best":
                best = best.update(x, here.margin)
            change = (x - images) / self.eps + length * ball.steepest_ascent(here.gradient)
            x = apply_perturbation(images, ball.project(change), self.eps)
        if self.return_iterate == "best":
            x = best.update(x, active_set.mean_margin(x)).images
        return active_set.merge_finished(x)
