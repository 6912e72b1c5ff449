"""Momentum FGSM through random resizing and padding, for transfer; Xie et al. (2019)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.balls import cut, uniform
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.momentum import momentum_steps
from scoreag.search.objective import Objective
from scoreag.search.options import answering, check


@answering
@dataclass(frozen=True)
class Attack:
    """M-DI2-FGSM: the gradient is taken at images made smaller and put somewhere on black.

    Args:
        epsilon: radius of the linf ball, pixels in [0, 1].
        steps: number of gradient steps, each of epsilon / steps.
        decay: of the momentum; 0 forgets at once.
        probability: with which an image is resized in a step.
        shrink: the smallest size, as a share of the image's.
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that a gradient is the mean of.
    """

    epsilon: float = 8 / 255
    steps: int = 10
    decay: float = 1.0
    probability: float = 0.5
    shrink: float = 0.9
    loss: str = "ce"
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "shrink", "draws")
        ranges = {"probability": (0, 1), "shrink": (0, 1), "decay": (0, math.inf)}
        check(self, above_zero=positive, loss=LOSSES, ranges=ranges)

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""

        def gradient(point: Images, step: int) -> Images:
            chance = noise.at("di", step)

            def resized(x: Images) -> torch.Tensor:
                return classifier(diverse(x, chance, self.probability, self.shrink))

            return Objective(resized, labels, LOSSES[self.loss], self.draws).slope(point).gradient

        return momentum_steps(gradient, images, self.epsilon, self.steps, self.decay)


def diverse(images: Images, noise: Noise, probability: float, shrink: float) -> Images:
    """Some of the images made smaller, at a random place of a black frame as large as before."""
    chance = (1 + uniform(noise, images.new_zeros(len(images), 4))) / 2
    size = torch.where(chance[:, 0] < probability, shrink + (1 - shrink) * chance[:, 1], 1.0)
    centre = (1 - size)[:, None] * (2 * chance[:, 2:] - 1)
    turn = torch.diag_embed(torch.ones_like(centre)) / size[:, None, None]
    maps = torch.cat([turn, (-centre / size[:, None])[:, :, None]], dim=2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return cut(F.grid_sample(images, grid, align_corners=False))
