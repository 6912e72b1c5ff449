"""PGD among smooth changes: only the lowest frequencies of a cosine transform; Guo et al. (2018).

Noise that a purifier or a blur takes away is of high frequency; this attack has none.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._common.losses import LOSSES
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation
from scoreag.attacks._common.objective import Objective, init_best
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

PROJECTION_STEPS = 4  # of ball and smoothness in turn, which come near the nearest point of both


@suggest_option_names
@dataclass(frozen=True)
class LowFrequency:
    """Changes within the ball whose spectrum ends at a share of the frequencies, each way.

    Every step is made smooth, and what leaves the ball is scaled down, which keeps it smooth; only
    where a pixel meets black or white is it cut, which does not. For each image the iterate on
    which the likeliest wrong class is furthest ahead.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        share: of the frequencies in each direction, from the lowest on.
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 epsilon / steps.
        norm: "Linf" or "L2".
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that a gradient is the mean of.
    """

    eps: float = 8 / 255
    frequency_fraction: float = 0.5
    steps: int = 100
    step_size: float | None = None
    norm: str = "Linf"
    loss: str = "ce"
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "frequency_fraction", "eot_samples")
        validate_attack_options(
            self,
            positive=positive,
            norm=NORM_BALLS,
            loss=LOSSES,
            ranges={"frequency_fraction": (0, 1)},
        )

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        ball = NORM_BALLS[self.norm]
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)

        def fitted(change: Images) -> Images:
            for _ in range(PROJECTION_STEPS):
                change = low_pass(ball.project(change), self.frequency_fraction)
            return change / ball.norm(change).clamp(min=1)

        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.eps
        change = fitted(ball.random_start(images, noise.fold_in("low")))
        best = init_best(images)
        for _ in range(self.steps):
            point = apply_perturbation(images, change, self.eps)
            slope = objective.loss_gradient(point)
            best = best.update(point, slope.margin)
            uphill = low_pass(slope.gradient, self.frequency_fraction)
            change = fitted(change + length * ball.steepest_ascent(uphill))
        point = apply_perturbation(images, change, self.eps)
        return best.update(point, objective.mean_margin(point)).images


def low_pass(images: Images, fraction: float) -> Images:
    """The nearest images without the frequencies above ``share`` of those in rows and columns."""
    rows, columns = (dct_projection(n, fraction).to(images) for n in images.shape[-2:])
    return rows @ images @ columns


def dct_projection(size: int, fraction: float) -> Float[Tensor, "{size} {size}"]:
    """The projection onto the lowest ``ceil(share size)`` cosines."""
    lowest = dct_matrix(size)[: math.ceil(fraction * size)]
    return lowest.T @ lowest


def dct_matrix(size: int) -> Float[Tensor, "{size} {size}"]:
    """The orthonormal DCT-II, a frequency a row: ``cos(pi (n + 1/2) k / size)``, k = 0 first."""
    n = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * (n[None, :] + 0.5) * n[:, None]) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
