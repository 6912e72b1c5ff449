"""Momentum FGSM through random resizing and padding, for transfer; Xie et al. (2019)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.momentum import run_mi_fgsm
from scoreag.attacks._common.norms import sample_uniform, straight_through_clamp
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
class DIFGSM:
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

    eps: float = 8 / 255
    steps: int = 10
    decay: float = 1.0
    probability: float = 0.5
    shrink: float = 0.9
    loss: str = "ce"
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "shrink", "eot_samples")
        ranges = {"probability": (0, 1), "shrink": (0, 1), "decay": (0, math.inf)}
        validate_attack_options(self, positive=positive, loss=LOSSES, ranges=ranges)

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""

        def gradient(point: Images, step: int) -> Images:
            chance = noise.fold_in("di", step)

            def resized(x: Images) -> torch.Tensor:
                return classifier(resize_and_pad(x, chance, self.probability, self.shrink))

            return (
                Objective(resized, labels, LOSSES[self.loss], self.eot_samples)
                .loss_gradient(point)
                .gradient
            )

        return run_mi_fgsm(gradient, images, self.eps, self.steps, self.decay)


def resize_and_pad(images: Images, noise: Noise, probability: float, shrink: float) -> Images:
    """Some of the images made smaller, at a random place of a black frame as large as before."""
    chance = (1 + sample_uniform(noise, images.new_zeros(len(images), 4))) / 2
    size = torch.where(chance[:, 0] < probability, shrink + (1 - shrink) * chance[:, 1], 1.0)
    centre = (1 - size)[:, None] * (2 * chance[:, 2:] - 1)
    turn = torch.diag_embed(torch.ones_like(centre)) / size[:, None, None]
    maps = torch.cat([turn, (-centre / size[:, None])[:, :, None]], dim=2)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return straight_through_clamp(F.grid_sample(images, grid, align_corners=False))
