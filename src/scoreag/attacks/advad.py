"""A diffusion without a model, bent by the classifier alone; after AdvAD, Li et al. (2024).

The chain starts at the image with noise on it, and every step takes that same noise n for its
prediction, less what raises ``log(1 - p_y)``. In the coordinates ``x = x0 + sigma n`` a step of
DDIM is ``x <- x + (sigma' - sigma) e``, so that the noise cancels, and what is left is

    x0 <- x0 + (sigma - sigma') clip(scale sigma g, -b / sigma_1, b / sigma_1),

g the gradient at the present x0-estimate and sigma_1 the first level: at most b a pixel in all. A
cheap rival without a ball to fill: it moves a pixel no further once the label is given up.
"""

from dataclasses import dataclass
from itertools import pairwise

from scoreag.attacks._common.losses import log_misclassified_prob
from scoreag.attacks._common.objective import Objective
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.noise_schedules import vp_uniform


@suggest_option_names
@dataclass(frozen=True)
class AdvAD:
    """AdvAD-like: many small changes that cease with success. No randomness is left in it.

    Args:
        epsilon: what no pixel leaves, in [0, 1].
        steps: of the chain, uniform in the time of a VP process, as a linear schedule of beta.
        scale: of the guidance; 1 in the paper.
        draws: calls of the classifier that a gradient is the mean of.
    """

    eps: float = 8 / 255
    steps: int = 200
    scale: float = 1.0
    eot_samples: int = 1

    def __post_init__(self) -> None:
        validate_attack_options(self, positive=("eps", "steps", "scale", "eot_samples"))

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        objective = Objective(classifier, labels, log_misclassified_prob, self.eot_samples)
        sigmas = vp_uniform(self.steps).tolist()
        bound = self.eps / sigmas[0]
        moved = images
        for sigma, next_sigma in pairwise(sigmas):
            gradient = objective.loss_gradient(moved.clamp(0, 1)).gradient
            # a state is twice an image: of the gradient half, and of the change half again
            push = (self.scale * sigma * gradient / 4).clamp(-bound, bound)
            moved = moved + (sigma - next_sigma) * push
        return moved.clamp(0, 1)
