"""Projected gradient ascent on a loss, in an Linf or L2 ball; Madry et al. (2018)."""

from dataclasses import dataclass

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import (
    EOT_WEIGHTINGS,
    LOSSES,
    NORM_BALLS,
    Objective,
    apply_perturbation,
    make_eot_weighting,
)
from scoreag.attacks._search import ascend, run_sequentially
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class PGD(Attack):
    """PGD from a random start in the ball.

    Args:
        return_iterate: "last", as in the paper; or "best", the one with the largest margin.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(40, above=0)
    step_size: float | None = option(None, high=1000)
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    return_iterate: str = option("last", among=("last", "best"))
    restarts: int = option(1, above=0)
    eot_samples: int = option(1, above=0)
    early_stop_draws: int = option(0, low=0)
    eot_weighting: str = option("mean", among=EOT_WEIGHTINGS)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
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
        relative_step = 2.5 / self.steps if self.step_size is None else self.step_size / self.eps

        def step(x: Images, gradient: Images) -> Images:
            change = (x - images) / self.eps + relative_step * ball.steepest_ascent(gradient)
            return apply_perturbation(images, ball.project(change), self.eps)

        start = ball.random_start(images, noise.fold_in("pgd"))
        return ascend(
            objective,
            images,
            apply_perturbation(images, start, self.eps),
            step,
            self.steps,
            return_best=self.return_iterate == "best",
            early_stop_draws=self.early_stop_draws,
        )
