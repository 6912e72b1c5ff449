"""One step along the gradient to the edge of an Linf or L2 ball; Goodfellow et al. (2015)."""

from dataclasses import dataclass

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import LOSSES, NORM_BALLS, Objective, apply_perturbation
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class FGSM(Attack):
    """``x + eps sign(grad)``, or ``x + eps grad / |grad|``; deterministic."""

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        gradient = objective.loss_gradient(images).gradient
        direction = NORM_BALLS[self.norm].steepest_ascent(gradient)
        return apply_perturbation(images, direction, self.eps)
