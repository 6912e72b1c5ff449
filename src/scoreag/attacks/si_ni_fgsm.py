"""Nesterov momentum and the mean over darkened copies, for transfer; Lin et al. (2020)."""

import math
from dataclasses import dataclass

import torch

from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.momentum import run_mi_fgsm
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
class SINIFGSM:
    """SI-NI-FGSM: the loss is the mean over ``x, x/2, x/4, ...``; no randomness of its own.

    Args:
        epsilon: radius of the linf ball, pixels in [0, 1].
        steps: number of gradient steps, each of epsilon / steps.
        decay: of the momentum.
        copies: how many there are, the image itself the first.
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier for each copy that a gradient is the mean of.
    """

    eps: float = 8 / 255
    steps: int = 10
    decay: float = 1.0
    copies: int = 5
    loss: str = "ce"
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "copies", "eot_samples")
        validate_attack_options(
            self, positive=positive, loss=LOSSES, ranges={"decay": (0, math.inf)}
        )

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)

        def gradient(point: Images, step: int) -> Images:
            """Of ``f(x / 2^i)`` with respect to x: half the size for each halving."""
            parts = [
                objective.loss_gradient((point / 2**i).clamp(0, 1)).gradient / 2**i
                for i in range(self.copies)
            ]
            return torch.stack(parts).mean(0)

        return run_mi_fgsm(gradient, images, self.eps, self.steps, self.decay, True)
