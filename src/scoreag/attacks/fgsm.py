"""One step along the gradient to the edge of an Linf or L2 ball; Goodfellow et al. (2015)."""

from dataclasses import dataclass

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import Objective
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class FGSM(Attack):
    """``x + eps sign(grad)``, or ``x + eps grad / |grad|``; no randomness.

    Args:
        eps: radius of the ball, pixels in [0, 1].
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        eot_samples: calls of the classifier that the gradient is the mean of.
    """

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        gradient = objective.loss_gradient(images).gradient
        direction = NORM_BALLS[self.norm].steepest_ascent(gradient)
        return apply_perturbation(images, direction, self.eps)
