"""Projected gradient ascent on a loss, in an linf or l2 ball; Madry et al. (2018)."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.balls import BALLS, within
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.objective import Objective, nothing_yet
from scoreag.search.options import answering, check
from scoreag.search.standing import all_standing
from scoreag.search.turns import in_turn
from scoreag.search.weights import WEIGHTS, check_weights, weighing

KEPT = ("last", "best")


@answering
@dataclass(frozen=True)
class Attack:
    """PGD from a random start in the ball.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 epsilon / steps.
        norm: "linf" or "l2".
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

    epsilon: float = 8 / 255
    steps: int = 40
    step_size: float | None = None
    norm: str = "linf"
    loss: str = "ce"
    keep: str = "last"
    restarts: int = 1
    draws: int = 1
    stop: int = 0
    weights: str = "mean"

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "restarts", "draws")
        words: dict[str, Collection[str]]
        words = {"norm": BALLS, "loss": LOSSES, "keep": [*KEPT], "weights": WEIGHTS}
        check(self, above_zero=positive, ranges={"stop": (0, math.inf)}, **words)
        check_weights("pgd", self.weights, self.draws)

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given, with a high loss at ``labels``."""
        if self.restarts == 1:
            return self._once(classifier, images, labels, noise)
        starts = [self._once] * self.restarts
        return in_turn(starts, classifier, images, labels, noise, self.draws, self.stop)

    def _once(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        ball = BALLS[self.norm]
        weigh = weighing(self.weights, self.norm, self.epsilon)
        objective = Objective(classifier, labels, LOSSES[self.loss], self.draws, weigh)
        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.epsilon
        adversarial = within(images, ball.start(images, noise.at("pgd")), self.epsilon)
        best, standing = nothing_yet(images), all_standing(objective, self.stop, images)
        for _ in range(self.steps):
            slope, standing = standing.slope(adversarial)
            if not standing.stands.any():
                break
            if self.keep == "best":
                best = best.offered(adversarial, slope.lead)
            change = (adversarial - images) / self.epsilon + length * ball.ascent(slope.gradient)
            adversarial = within(images, ball.project(change), self.epsilon)
        if self.keep == "last":
            return standing.found(adversarial)
        return standing.found(best.offered(adversarial, standing.lead(adversarial)).images)
