"""One step along the gradient to the edge of an linf or l2 ball; Goodfellow et al. (2015)."""

from dataclasses import dataclass

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.balls import BALLS, within
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.objective import Objective
from scoreag.search.options import answering, check


@answering
@dataclass(frozen=True)
class Attack:
    """``x + epsilon sign(grad)``, or ``x + epsilon grad / |grad|``; no randomness.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "linf" or "l2".
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that the gradient is the mean of.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    loss: str = "ce"
    draws: int = 1

    def __post_init__(self) -> None:
        check(self, above_zero=("epsilon", "draws"), norm=BALLS, loss=LOSSES)

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        slope = Objective(classifier, labels, LOSSES[self.loss], self.draws).slope(images)
        return within(images, BALLS[self.norm].ascent(slope.gradient), self.epsilon)
