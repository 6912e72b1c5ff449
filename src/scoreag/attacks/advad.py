"""A diffusion without a model, guided by the classifier alone; after AdvAD, Li et al. (2024).

The chain starts at the image with noise on it, and every step predicts that same noise n, less
what raises ``log(1 - p_y)``. With ``x = x0 + sigma n`` a DDIM step is ``x <- x + (sigma' - sigma)
e``, so the noise cancels and what is left is

    x0 <- x0 + (sigma - sigma') clip(scale sigma g, -eps / sigma_1, eps / sigma_1),

g the gradient at the present x0-estimate, sigma_1 the first level: at most eps a pixel in all. A
cheap rival that fills no ball: a pixel stops moving once the label is given up.
"""

from dataclasses import dataclass
from itertools import pairwise

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.objective import Objective
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.likelihoods import log_misclassified_prob
from scoreag.diffusion.noise_schedules import vp_uniform


@dataclass(frozen=True)
class AdvAD(Attack):
    """AdvAD-like: many small changes that stop with success; no randomness.

    Args:
        eps: radius of the Linf ball, pixels in [0, 1].
        steps: of the chain, uniform in the time of a VP process with linear beta.
        scale: of the guidance; 1 in the paper.
        eot_samples: calls of the classifier that a gradient is the mean of.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(200, above=0)
    scale: float = option(1.0, above=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        objective = Objective(classifier, labels, log_misclassified_prob, self.eot_samples)
        sigmas = vp_uniform(self.steps).tolist()
        bound = self.eps / sigmas[0]
        x = images
        for sigma, next_sigma in pairwise(sigmas):
            gradient = objective.loss_gradient(x.clamp(0, 1)).gradient
            # a state is twice an image: half the gradient, and half the change again
            push = (self.scale * sigma * gradient / 4).clamp(-bound, bound)
            x = x + (sigma - next_sigma) * push
        return x.clamp(0, 1)
