"""One step along the gradient to the edge of an linf or l2 ball; Goodfellow et al. (2015)."""

from dataclasses import dataclass

from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import Objective
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@suggest_option_names
@dataclass(frozen=True)
class FGSM:
    """``x + epsilon sign(grad)``, or ``x + epsilon grad / |grad|``; no randomness.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that the gradient is the mean of.
    """

    eps: float = 8 / 255
    norm: str = "Linf"
    loss: str = "ce"
    eot_samples: int = 1

    def __post_init__(self) -> None:
        validate_attack_options(self, positive=("eps", "eot_samples"), norm=NORM_BALLS, loss=LOSSES)

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        slope = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples).loss_gradient(
            images
        )
        return apply_perturbation(
            images, NORM_BALLS[self.norm].steepest_ascent(slope.gradient), self.eps
        )
