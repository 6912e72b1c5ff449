"""PGD that chooses its own step size, and goes back to its best point; Croce & Hein (2020)."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels, PerImage
from scoreag.search.balls import BALLS, within
from scoreag.search.door import door
from scoreag.search.losses import LOSSES, TARGETED, likeliest_others
from scoreag.search.objective import Objective, Slope, chosen, nothing_yet
from scoreag.search.options import answering, check
from scoreag.search.standing import all_standing
from scoreag.search.turns import Search, in_turn
from scoreag.search.weights import WEIGHTS, check_weights, weighing

MOMENTUM = 0.75  # alpha of the paper
RISING = 0.75  # rho: the share of steps that must raise the loss, or the step size is halved


@answering
@dataclass(frozen=True)
class Attack:
    """APGD: ``restarts`` runs from random starts, or one towards each of the likeliest classes.

    Each run goes on with the images that the ones before left standing, and gives for each the
    iterate on which the likeliest wrong class is furthest ahead.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        steps: of each run; a gradient each.
        norm: "linf" or "l2".
        loss: "ce", "margin" or "dlr".
        targets: how many classes are aimed at, one after the other, from the likeliest wrong one
            on; 0 aims at none.
        restarts: from other starts; of each target, where there are targets.
        draws: calls of the classifier that a gradient is the mean of; more than 1 for a defence
            that draws.
        stop: an image is left alone once it is misread in so many fresh draws, in each of them;
            0 never leaves one alone within a run.
        weights: of the draws' gradients: "mean"; or "selective", those that one step can fool.
    """

    epsilon: float = 8 / 255
    steps: int = 100
    norm: str = "linf"
    loss: str = "ce"
    targets: int = 0
    restarts: int = 1
    draws: int = 1
    stop: int = 0
    weights: str = "mean"

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "restarts", "draws")
        words: dict[str, Collection[str]]
        words = {"norm": BALLS, "loss": LOSSES, "weights": WEIGHTS}
        ranges = {"targets": (0, 1000), "stop": (0, math.inf)}
        check(self, above_zero=positive, ranges=ranges, **words)
        check_weights("apgd", self.weights, self.draws)

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        runs = self.searches()
        return in_turn(runs, classifier, images, labels, noise, self.draws, self.stop)

    def searches(self) -> Iterator[Search]:
        """The runs, in their order."""
        for _ in range(self.restarts):
            if not self.targets:
                yield self._untargeted
            for place in range(self.targets):
                yield partial(self._targeted, place)

    def _untargeted(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        return self._run(classifier, images, labels, noise)

    def _targeted(
        self, place: int, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Towards the wrong class that is the ``place``-th likeliest of the image given."""
        with torch.no_grad():
            likely = likeliest_others(classifier(images), labels, place + 1)
        if likely.shape[1] <= place:  # the classifier knows no further class
            return images
        return self._run(classifier, images, labels, noise, likely[:, place])

    def _run(
        self,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        noise: Noise,
        targets: Labels | None = None,
    ) -> Images:
        """Algorithm 1 of the paper; a run leaves every image of its batch to itself."""
        weigh = weighing(self.weights, self.norm, self.epsilon)
        loss = (LOSSES if targets is None else TARGETED)[self.loss]
        objective = Objective(classifier, labels, loss, self.draws, weigh, targets)
        start = BALLS[self.norm].start(images, noise.at("apgd"))
        point = within(images, start, self.epsilon)
        slope, standing = all_standing(objective, self.stop, images).slope(point)
        worst = nothing_yet(images).offered(point, slope.lead)
        state = _State.at(point, slope)
        turns = checkpoints(self.steps)
        for k in range(1, self.steps + 1):
            state = state.moved(images, self.norm, self.epsilon, first=k == 1)
            if k == self.steps or not standing.stands.any():
                break
            slope, standing = standing.slope(state.point)
            worst = worst.offered(state.point, slope.lead)
            state = state.seen(slope)
            if k in turns:
                state = state.checked(k - max(t for t in turns if t < k))
        return standing.found(worst.offered(state.point, standing.lead(state.point)).images)


def checkpoints(steps: int) -> list[int]:
    """``ceil(p_j steps)``: p_0 = 0, p_1 = 0.22, ``p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)``."""
    shares, gap = [0.0, 0.22], 0.22
    while shares[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    return sorted({math.ceil(round(share * steps, 9)) for share in shares if share <= 1})


@dataclass(frozen=True, eq=False)
class _State:
    """Where each image is in its run; step sizes in radii of the ball."""

    point: Images
    before: Images
    slope: Slope
    best: Images
    best_slope: Slope
    step: PerImage
    rises: PerImage  # since the last checkpoint
    at_checkpoint: tuple[PerImage, PerImage]  # the step size and the best value there

    @classmethod
    def at(cls, point: Images, slope: Slope) -> "_State":
        step = torch.full_like(slope.value, 2.0)
        rises = torch.zeros_like(step)
        return cls(point, point, slope, point, slope, step, rises, (step, slope.value))

    def moved(self, images: Images, norm: str, epsilon: float, first: bool) -> "_State":
        """A step of its size, then a share of it and of the last movement."""
        ball = BALLS[norm]

        def project(point: Images) -> Images:
            return within(images, ball.project((point - images) / epsilon), epsilon)

        length = epsilon * self.step[:, None, None, None]
        ahead = project(self.point + length * ball.ascent(self.slope.gradient))
        if not first:
            carried = (1 - MOMENTUM) * (self.point - self.before)
            ahead = project(self.point + MOMENTUM * (ahead - self.point) + carried)
        return replace(self, point=ahead, before=self.point)

    def seen(self, slope: Slope) -> "_State":
        rises = self.rises + (slope.value > self.slope.value).to(self.rises)
        better = slope.value > self.best_slope.value
        return replace(
            self,
            slope=slope,
            best=chosen(better, self.point, self.best),
            best_slope=_chosen(better, slope, self.best_slope),
            rises=rises,
        )

    def checked(self, steps: int) -> "_State":
        """Halve the step and go back to the best point, where the last ``steps`` did too little."""
        step, value = self.at_checkpoint
        stuck = (self.step == step) & (self.best_slope.value == value)
        halve = (self.rises < RISING * steps) | stuck
        return replace(
            self,
            point=chosen(halve, self.best, self.point),
            slope=_chosen(halve, self.best_slope, self.slope),
            step=torch.where(halve, self.step / 2, self.step),
            rises=torch.zeros_like(self.rises),
            at_checkpoint=(self.step, self.best_slope.value),
        )


def _chosen(which: Tensor, yes: Slope, no: Slope) -> Slope:
    return Slope(
        chosen(which, yes.gradient, no.gradient),
        torch.where(which, yes.value, no.value),
        torch.where(which, yes.lead, no.lead),
        torch.where(which, yes.least, no.least),
    )
