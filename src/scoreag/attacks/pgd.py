"""Projected gradient ascent on the cross-entropy, in an linf or l2 ball; Madry et al. (2018)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class Ball:
    """What PGD needs to know of a norm, for a ball of radius 1."""

    start: Callable[[Images, Noise], Images]  # uniform in the ball, with the shape of the images
    ascent: Callable[[Images], Images]  # the steepest direction of length 1, given a gradient
    project: Callable[[Images], Images]  # the nearest point of the ball


def _uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform on (-1, 1): a standard normal number through its own distribution function."""
    return torch.erf(noise.normal_like(like) / math.sqrt(2))


def _lengths(x: Images) -> Tensor:
    """Euclidean, one an image, shaped to divide the images; never 0."""
    return x.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]


def _start_l2(images: Images, noise: Noise) -> Images:
    """A direction, and the d-th root of a uniform number as its length."""
    direction = noise.at("direction").normal_like(images)
    share = (1 + _uniform(noise.at("length"), images[:, :1, :1, :1])) / 2
    return direction / _lengths(direction) * share ** (1 / images[0].numel())


BALLS = {
    "linf": Ball(
        start=lambda images, noise: _uniform(noise.at("start"), images),
        ascent=torch.sign,
        project=lambda x: x.clamp(-1, 1),
    ),
    "l2": Ball(
        start=_start_l2,
        ascent=lambda gradient: gradient / _lengths(gradient),
        project=lambda x: x / _lengths(x).clamp(min=1),
    ),
}


@dataclass(frozen=True)
class Attack:
    """PGD from a random start in the ball; the last iterate is the result, as in the paper.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        steps: number of gradient steps.
        step_size: length of one step in the norm; by default 2.5 epsilon / steps.
        norm: "linf" or "l2".
    """

    epsilon: float = 8 / 255
    steps: int = 40
    step_size: float | None = None
    norm: str = "linf"

    def __post_init__(self) -> None:
        if self.norm not in BALLS:
            raise ValueError(f"pgd knows no norm {self.norm!r}; write one of: {', '.join(BALLS)}")
        if not (self.epsilon > 0 and self.steps > 0):
            raise ValueError(
                f"pgd with epsilon {self.epsilon} and {self.steps} steps does nothing; "
                "both must be above 0, e.g. 8/255 and 40"
            )

    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given, with a high loss at ``labels``."""
        ball = BALLS[self.norm]
        length = 2.5 / self.steps if self.step_size is None else self.step_size / self.epsilon
        adversarial = self._within(images, ball.start(images, noise.at("pgd")))
        for _ in range(self.steps):
            climb = ball.ascent(_gradient(classifier, adversarial, labels))
            change = (adversarial - images) / self.epsilon + length * climb
            adversarial = self._within(images, ball.project(change))
        return adversarial

    def _within(self, images: Images, change: Images) -> Images:
        """The pixel range is cut last: that brings every pixel nearer to its original."""
        return (images + self.epsilon * change).clamp(0, 1)


def _gradient(classifier: Classifier, images: Images, labels: Labels) -> Images:
    """Of the sum, not the mean, over the batch: image i is none of image j's business."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(classifier(leaf), labels, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]
