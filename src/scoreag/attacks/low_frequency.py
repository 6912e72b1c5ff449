"""PGD among smooth changes: only the lowest frequencies of a cosine transform; Guo et al. (2018).

A purifier or a blur removes high frequencies, which this attack does not use.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import LOSSES, NORM_BALLS, Objective, apply_perturbation
from scoreag.attacks._search import ascend
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

PROJECTION_STEPS = 4  # alternating projections onto the ball and onto smooth changes


@dataclass(frozen=True)
class LowFrequency(Attack):
    """Changes in the ball with the lowest fraction of the frequencies in each direction.

    Each step is smoothed, and then scaled down into the ball, which preserves smoothness; only the
    clamp to [0, 1] does not. Returns the iterate with the largest margin.

    Args:
        frequency_fraction: of the frequencies in each direction, from the lowest on.
    """

    eps: float = option(8 / 255, above=0)
    frequency_fraction: float = option(0.5, above=0, high=1)
    steps: int = option(100, above=0)
    step_size: float | None = option(None, high=1000)
    norm: str = option("Linf", among=NORM_BALLS)
    loss: str = option("ce", among=LOSSES)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        ball = NORM_BALLS[self.norm]
        objective = Objective(classifier, labels, LOSSES[self.loss], self.eot_samples)
        relative_step = 2.5 / self.steps if self.step_size is None else self.step_size / self.eps

        def project(change: Images) -> Images:
            for _ in range(PROJECTION_STEPS):
                change = low_pass(ball.project(change), self.frequency_fraction)
            return change / ball.norm(change).clamp(min=1)

        def step(change: Images, gradient: Images) -> Images:
            ascent = ball.steepest_ascent(low_pass(gradient, self.frequency_fraction))
            return project(change + relative_step * ascent)

        def render(change: Images) -> Images:
            return apply_perturbation(images, change, self.eps)

        start = project(ball.random_start(images, noise.fold_in("low")))
        return ascend(objective, images, start, step, self.steps, render)


def low_pass(images: Images, fraction: float) -> Images:
    """The nearest images without frequencies above ``fraction`` of those in rows and columns."""
    rows, columns = (dct_projection(n, fraction).to(images) for n in images.shape[-2:])
    return rows @ images @ columns


def dct_projection(size: int, fraction: float) -> Float[Tensor, "{size} {size}"]:
    """The projection onto the lowest ``ceil(fraction size)`` cosines."""
    lowest = dct_matrix(size)[: math.ceil(fraction * size)]
    return lowest.T @ lowest


def dct_matrix(size: int) -> Float[Tensor, "{size} {size}"]:
    """The orthonormal DCT-II, one frequency a row: ``cos(pi (n + 1/2) k / size)``, k = 0 first."""
    n = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * (n[None, :] + 0.5) * n[:, None]) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
