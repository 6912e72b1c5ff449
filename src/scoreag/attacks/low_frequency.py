"""PGD among smooth changes: only the lowest frequencies of a cosine transform; Guo et al. (2018).

Noise that a purifier or a blur takes away is of high frequency; this attack has none.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.balls import BALLS, within
from scoreag.search.door import door
from scoreag.search.losses import LOSSES
from scoreag.search.objective import Objective, nothing_yet
from scoreag.search.options import answering, check

ROUNDS = 4  # of ball and smoothness in turn, which come near the nearest point of both


@answering
@dataclass(frozen=True)
class Attack:
    """Changes within the ball whose spectrum ends at a share of the frequencies, each way.

    Every step is made smooth, and what leaves the ball is scaled down, which keeps it smooth; only
    where a pixel meets black or white is it cut, which does not. For each image the iterate on
    which the likeliest wrong class is furthest ahead.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        share: of the frequencies in each direction, from the lowest on.
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 epsilon / steps.
        norm: "linf" or "l2".
        loss: "ce", "margin" or "dlr".
        draws: calls of the classifier that a gradient is the mean of.
    """

    epsilon: float = 8 / 255
    share: float = 0.5
    steps: int = 100
    step_size: float | None = None
    norm: str = "linf"
    loss: str = "ce"
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "share", "draws")
        check(self, above_zero=positive, norm=BALLS, loss=LOSSES, ranges={"share": (0, 1)})

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        ball = BALLS[self.norm]
        objective = Objective(classifier, labels, LOSSES[self.loss], self.draws)

        def fitted(change: Images) -> Images:
            for _ in range(ROUNDS):
                change = low_pass(ball.project(change), self.share)
            return change / ball.size(change).clamp(min=1)

        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.epsilon
        change = fitted(ball.start(images, noise.at("low")))
        best = nothing_yet(images)
        for _ in range(self.steps):
            point = within(images, change, self.epsilon)
            slope = objective.slope(point)
            best = best.offered(point, slope.lead)
            uphill = low_pass(slope.gradient, self.share)
            change = fitted(change + length * ball.ascent(uphill))
        point = within(images, change, self.epsilon)
        return best.offered(point, objective.lead(point)).images


def low_pass(images: Images, share: float) -> Images:
    """The nearest images without the frequencies above ``share`` of those in rows and columns."""
    rows, columns = (kept(n, share).to(images) for n in images.shape[-2:])
    return rows @ images @ columns


def kept(size: int, share: float) -> Float[Tensor, "{size} {size}"]:
    """The projection onto the lowest ``ceil(share size)`` cosines."""
    lowest = cosines(size)[: math.ceil(share * size)]
    return lowest.T @ lowest


def cosines(size: int) -> Float[Tensor, "{size} {size}"]:
    """The orthonormal DCT-II, a frequency a row: ``cos(pi (n + 1/2) k / size)``, k = 0 first."""
    n = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * (n[None, :] + 0.5) * n[:, None]) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
