"""Nesterov momentum and the mean over darkened copies, for transfer; Lin et al. (2020)."""

from dataclasses import dataclass

import torch

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import LOSSES, Objective
from scoreag.attacks._search import run_mi_fgsm
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class SINIFGSM(Attack):
    """SI-NI-FGSM: the loss is the mean over ``x, x/2, x/4, ...``; deterministic.

    Args:
        steps: number of gradient steps, each of eps / steps.
        decay: of the momentum.
        copies: number of copies, including the image itself.
        eot_samples: classifier calls per gradient of a copy.
    """

    eps: float = option(8 / 255, above=0)
    steps: int = option(10, above=0)
    decay: float = option(1.0, low=0)
    copies: int = option(5, above=0)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)

        def gradient(point: Images, step: int) -> Images:
            """The mean gradient of ``f(x / 2^i)`` with respect to x."""
            parts = [
                objective.loss_gradient((point / 2**i).clamp(0, 1)).gradient / 2**i
                for i in range(self.copies)
            ]
            return torch.stack(parts).mean(0)

        return run_mi_fgsm(gradient, images, self.eps, self.steps, self.decay, nesterov=True)
