"""Momentum FGSM through random resizing and padding, for transfer; Xie et al. (2019)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import LOSSES, Objective, straight_through_clamp
from scoreag.attacks._search import run_mi_fgsm
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels, Logits


@dataclass(frozen=True)
class DIFGSM(Attack):
    """M-DI2-FGSM: gradients are taken at images that are shrunk and placed randomly on black.

    Args:
        steps: number of gradient steps, each of eps / steps.
        decay: of the momentum; 0: no momentum.
        probability: that an image is resized in a step.
        shrink: the smallest size, as a fraction of the image's.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(10, above=0)
    decay: float = option(1.0, low=0)
    probability: float = option(0.5, low=0, high=1)
    shrink: float = option(0.9, above=0, high=1)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        def gradient(point: Images, step: int) -> Images:
            def classify_resized(x: Images) -> Logits:
                fresh = noise.fold_in("di", step)
                return classifier(resize_and_pad(x, fresh, self.probability, self.shrink))

            objective = Objective(classify_resized, labels, LOSSES[self.loss], self.eot_samples)
            return objective.loss_gradient(point).gradient

        return run_mi_fgsm(gradient, images, self.eps, self.steps, self.decay)


def resize_and_pad(images: Images, noise: Noise, probability: float, shrink: float) -> Images:
    """Shrink some of the images, and place each randomly on black; the shape stays the same."""
    uniform = noise.uniform_like(images.new_zeros(len(images), 4))
    size = torch.where(uniform[:, 0] < probability, shrink + (1 - shrink) * uniform[:, 1], 1.0)
    center = (1 - size)[:, None] * (2 * uniform[:, 2:] - 1)
    scaling = torch.diag_embed(torch.ones_like(center)) / size[:, None, None]
    maps = torch.cat([scaling, (-center / size[:, None])[:, :, None]], dim=2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return straight_through_clamp(F.grid_sample(images, grid, align_corners=False))
