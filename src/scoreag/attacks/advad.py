"""A diffusion without a model, guided by the classifier alone; after AdvAD, Li et al. (2024).

The chain starts at the image with noise n, and each step predicts the same n, minus what raises
``log(1 - p_y)``. With ``x = x0 + sigma n`` a DDIM step is ``x <- x + (sigma' - sigma) e``, so the
noise cancels, which leaves

    x0 <- x0 + (sigma - sigma') clip(scale sigma g, -eps / sigma_1, eps / sigma_1),

with g the gradient at the current x0-estimate and sigma_1 the first level: a pixel changes by at
most eps in total. A pixel stops moving once the classifier errs, so the ball is not used up.
"""

from dataclasses import dataclass
from itertools import pairwise

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import Objective
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.likelihoods import log_misclassified_prob
from scoreag.diffusion.noise_schedules import vp_uniform


@dataclass(frozen=True)
class AdvAD(Attack):
    """AdvAD: many small changes that stop with success; deterministic.

    Args:
        steps: of the chain, uniform in the time of a VP process with linear beta.
        scale: of the guidance; 1 in the paper.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(200, above=0)
    scale: float = option(1.0, above=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        objective = Objective(classifier, labels, log_misclassified_prob, self.eot_samples)
        sigmas = vp_uniform(self.steps).tolist()
        bound = self.eps / sigmas[0]
        x = images
        for sigma, next_sigma in pairwise(sigmas):
            gradient = objective.loss_gradient(x.clamp(0, 1)).gradient
            # states are in [-1, 1]: half the gradient of [0, 1], and half of the change again
            push = (self.scale * sigma * gradient / 4).clamp(-bound, bound)
            x = x + (sigma - next_sigma) * push
        return x.clamp(0, 1)
