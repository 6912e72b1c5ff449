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

from scoreag.core.noise import Noise
from scoreag.core.schedule import vp_uniform
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.door import door
from scoreag.search.losses import log_wrong
from scoreag.search.objective import Objective
from scoreag.search.options import answering, check


@answering
@dataclass(frozen=True)
class Attack:
    """AdvAD-like: many small changes that cease with success. No randomness is left in it.

    Args:
        epsilon: what no pixel leaves, in [0, 1].
        steps: of the chain, uniform in the time of a VP process, as a linear schedule of beta.
        scale: of the guidance; 1 in the paper.
        draws: calls of the classifier that a gradient is the mean of.
    """

    epsilon: float = 8 / 255
    steps: int = 200
    scale: float = 1.0
    draws: int = 1

    def __post_init__(self) -> None:
        check(self, above_zero=("epsilon", "steps", "scale", "draws"))

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        objective = Objective(classifier, labels, log_wrong, self.draws)
        sigmas = vp_uniform(self.steps).tolist()
        bound = self.epsilon / sigmas[0]
        moved = images
        for sigma, next_sigma in pairwise(sigmas):
            gradient = objective.slope(moved.clamp(0, 1)).gradient
            # a state is twice an image: of the gradient half, and of the change half again
            push = (self.scale * sigma * gradient / 4).clamp(-bound, bound)
            moved = moved + (sigma - next_sigma) * push
        return moved.clamp(0, 1)
