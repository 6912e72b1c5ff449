"""Nesterov momentum and the mean over darkened copies, for transfer; Lin et al. (2020)."""

import math
from dataclasses import dataclass

import torch

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.momentum import momentum_steps
from scoreag.search.objective import Objective
from scoreag.search.options import answering, check


@answering
@dataclass(frozen=True)
class Attack:
    """SI-NI-FGSM: the loss is the mean over ``x, x/2, x/4, ...``; no randomness of its own.

    Args:
        epsilon: radius of the linf ball, pixels in [0, 1].
        steps: number of gradient steps, each of epsilon / steps.
        decay: of the momentum.
        copies: how many there are, the image itself the first.
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier for each copy that a gradient is the mean of.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    decay: float = 1.0
    copies: int = 5
    loss: str = "ce"
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "copies", "draws")
        check(self, above_zero=positive, loss=LOSSES, ranges={"decay": (0, math.inf)})

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        objective = Objective(classifier, labels, LOSSES[self.loss], self.draws)

        def gradient(point: Images, step: int) -> Images:
            """Of ``f(x / 2^i)`` with respect to x: half the size for each halving."""
            parts = [
                objective.slope((point / 2**i).clamp(0, 1)).gradient / 2**i
                for i in range(self.copies)
            ]
            return torch.stack(parts).mean(0)

        return momentum_steps(gradient, images, self.epsilon, self.steps, self.decay, True)
