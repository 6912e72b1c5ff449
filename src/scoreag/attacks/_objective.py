"""What an attack maximizes, and where: losses, their gradient, and the l_p ball that bounds it.

    maximize  loss(f(x + eps d), y)   over  |d|_p <= 1,  x + eps d in [0, 1]

``NORM_BALLS`` has the projections and ``LOSSES`` the losses. ``z`` are the logits, ``y`` is the
label, ``t`` a target class; z_(1) >= z_(2) >= ... are the logits in descending order.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scoreag.core.batching import draws_per_batch, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels, Logits
from scoreag.diffusion.likelihoods import logit_margin

Loss: TypeAlias = Callable[..., BatchScalar]  # (logits, labels), or (logits, labels, targets)
DrawLosses: TypeAlias = Float[Tensor, "draws batch"]
DrawGradients: TypeAlias = Float[Tensor, "draws batch channels height width"]
EotWeighting: TypeAlias = Callable[[DrawLosses, DrawGradients], Images]

EOT_WEIGHTINGS = ("mean", "selective")
FRANK_WOLFE_STEPS = 10
TINY = 1e-12  # keeps a ratio finite


@dataclass(frozen=True)
class NormBall:
    """The unit ball of a norm."""

    random_start: Callable[[Images, Noise], Images]  # uniform in the ball, shaped as the images
    steepest_ascent: Callable[[Images], Images]  # the unit step with the largest g . d, from g
    project: Callable[[Images], Images]  # to the nearest point of the ball
    norm: Callable[[Images], Tensor]  # (batch, 1, 1, 1)


def sample_uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform on [-1, 1)."""
    return 2 * noise.uniform_like(like) - 1


def l2_norms(x: Images) -> Tensor:
    """The Euclidean norm of each image, at least 1e-12; (batch, 1, 1, 1)."""
    return x.flatten(1).norm(dim=1).clamp(min=TINY)[:, None, None, None]


def _sample_l2_ball(images: Images, noise: Noise) -> Images:
    """A random direction; its length is the d-th root of a uniform number."""
    direction = noise.fold_in("direction").normal_like(images)
    uniform = noise.fold_in("length").uniform_like(images[:, :1, :1, :1])
    return direction / l2_norms(direction) * uniform ** (1 / images[0].numel())


NORM_BALLS = {
    "Linf": NormBall(
        random_start=lambda images, noise: sample_uniform(noise.fold_in("start"), images),
        steepest_ascent=torch.sign,
        project=lambda x: x.clamp(-1, 1),
        norm=lambda x: x.abs().flatten(1).amax(1)[:, None, None, None],
    ),
    "L2": NormBall(
        random_start=_sample_l2_ball,
        steepest_ascent=lambda gradient: gradient / l2_norms(gradient),
        project=lambda x: x / l2_norms(x).clamp(min=1),
        norm=l2_norms,
    ),
}


def apply_perturbation(images: Images, perturbation: Images, eps: float) -> Images:
    """``images + eps perturbation``, clamped to [0, 1], which only shortens the perturbation."""
    return (images + eps * perturbation).clamp(0, 1)


def straight_through_clamp(x: Images) -> Images:
    """``x`` clamped to [0, 1], with the gradient of ``x``: for values outside by rounding alone."""
    return x + (x.clamp(0, 1) - x).detach()


def cross_entropy(logits: Logits, labels: Labels, targets: Labels | None = None) -> BatchScalar:
    """``-log softmax(z)_y``, or ``log softmax(z)_t``; it saturates for confident classifiers."""
    if targets is None:
        return F.cross_entropy(logits, labels, reduction="none")
    return -F.cross_entropy(logits, targets, reduction="none")


def margin(logits: Logits, labels: Labels, targets: Labels | None = None) -> BatchScalar:
    """``max_{i != y} z_i - z_y``, or ``z_t - z_y``; Carlini & Wagner (2017), f_6."""
    if targets is None:
        return -logit_margin(logits, labels)
    target, own = logits.gather(1, torch.stack([targets, labels], 1)).unbind(1)
    return target - own


def dlr(logits: Logits, labels: Labels, targets: Labels | None = None) -> BatchScalar:
    """The margin over ``z_(1) - z_(3)``, or ``z_(1) - (z_(3) + z_(4)) / 2`` with targets.

    Croce & Hein (2020), eq. 6 and 7. It is invariant to the scale of the logits.
    """
    needed, name = (3, "dlr") if targets is None else (4, "dlr with targets")
    if logits.shape[1] < needed:
        raise ValueError(
            f"the loss {name} needs {needed} classes, and the classifier knows {logits.shape[1]}; "
            "write loss 'margin'"
        )
    top = logits.topk(needed, dim=1).values
    third = top[:, 2] if targets is None else (top[:, 2] + top[:, 3]) / 2
    return margin(logits, labels, targets) / (top[:, 0] - third + TINY)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}


def top_k_wrong_classes(logits: Logits, labels: Labels, k: int) -> Tensor:
    """The ``k`` likeliest wrong classes of each image, in descending order; (batch, k)."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(k, logits.shape[1] - 1), dim=1).indices


def where_per_image(mask: Tensor, if_true: Tensor, if_false: Tensor) -> Tensor:
    """``torch.where`` with one condition an image."""
    return torch.where(mask.view(-1, *(1,) * (if_true.ndim - 1)), if_true, if_false)


@dataclass(frozen=True, eq=False)
class LossGradient:
    """Loss, gradient, and untargeted margin of each image, averaged over the draws.

    ``min_margin`` is the smallest margin of a draw: above 0, every draw errs.
    """

    gradient: Images
    loss: BatchScalar
    margin: BatchScalar
    min_margin: BatchScalar

    def where(self, mask: Tensor, other: "LossGradient") -> "LossGradient":
        """This one where ``mask`` is true, else the other."""
        parts = zip(vars(self).values(), vars(other).values(), strict=True)
        return LossGradient(*(where_per_image(mask, own, its) for own, its in parts))


def average_gradients(draw_losses: DrawLosses, gradients: DrawGradients) -> Images:
    """``sum_i g_i / n``: expectation over transformation."""
    return gradients.mean(0)


@dataclass(frozen=True, eq=False)
class Objective:
    """The loss of a classifier at the labels of a batch, or toward ``targets``.

    Each call of a randomized classifier is another draw. Expectation over transformation (EOT;
    Athalye et al. 2018) averages loss, gradient and margin over ``eot_samples`` draws, which are
    one batch if the classifier has memory for it.
    """

    classifier: Classifier
    labels: Labels
    loss: Loss
    eot_samples: int = 1
    combine_gradients: EotWeighting = average_gradients
    targets: Labels | None = None

    def select_rows(self, rows: list[int]) -> "Objective":
        """The objective of some images of the batch."""
        part, labels = select_rows(self.classifier, rows), self.labels[rows]
        targets = None if self.targets is None else self.targets[rows]
        return replace(self, classifier=part, labels=labels, targets=targets)

    def loss_gradient(self, images: Images) -> LossGradient:
        """The gradient of the sum over the batch, so that no image depends on another."""
        size = draws_per_batch(self.classifier, images, self.eot_samples)
        sizes = [min(size, self.eot_samples - done) for done in range(0, self.eot_samples, size)]
        draws = [draw for n_draws in sizes for draw in self._draw_gradients(images, n_draws)]
        if self.eot_samples == 1:
            return draws[0]
        losses, margins = (torch.stack([getattr(d, n) for d in draws]) for n in ("loss", "margin"))
        gradient = self.combine_gradients(losses, torch.stack([draw.gradient for draw in draws]))
        return LossGradient(gradient, losses.mean(0), margins.mean(0), margins.amin(0))

    def _draw_gradients(self, images: Images, n_draws: int) -> list[LossGradient]:
        """``n_draws`` results from one batch, in which each image appears as often."""
        part = self if n_draws == 1 else self.select_rows([*range(len(images))] * n_draws)
        leaf = images.repeat(n_draws, 1, 1, 1).requires_grad_()
        with torch.enable_grad():
            logits = part.classifier(leaf)
            targets = () if part.targets is None else (part.targets,)
            loss = part.loss(logits, part.labels, *targets)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        margins = margin(logits.detach(), part.labels)
        draws = (each.chunk(n_draws) for each in (gradient, loss.detach(), margins, margins))
        return [LossGradient(*parts) for parts in zip(*draws, strict=True)]

    def mean_margin(self, images: Images) -> BatchScalar:
        """The mean margin over ``eot_samples`` calls; above 0 the classifier errs."""
        draws = [self.single_draw_margin(images) for _ in range(self.eot_samples)]
        return torch.stack(draws).mean(0)

    @torch.no_grad()
    def single_draw_margin(self, images: Images) -> BatchScalar:
        """The margin of one call."""
        return margin(self.classifier(images), self.labels)


def make_eot_weighting(eot_weighting: str, norm: str, eps: float) -> EotWeighting:
    """The function that combines the gradients of several draws, by name."""
    if eot_weighting == "mean":
        return average_gradients
    return partial(weight_selectively, NORM_BALLS[norm], eps)


def weight_selectively(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> Images:
    """``sum_i q_i g_i / sum_i q_i``, with the largest weights for draws that one step can fool.

    ``q_i = s(L_i + d . g_i)`` with the logistic function s, where d is the step in the ball that
    maximizes ``sum_i s(L_i + d . g_i)``; Wang et al. (2024, DiffHammer), eq. 9, to first order.
    DiffBreak (2411.16598) finds no advantage over the mean once gradients are exact.
    """
    q = selection_probabilities(ball, eps, draw_losses, gradients)[..., None, None, None]
    return (q * gradients).sum(0) / q.sum(0)


def selection_probabilities(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> DrawLosses:
    """``q``, the best of a step along the mean gradient and full Frank-Wolfe steps from d = 0."""

    def probabilities(direction: Images) -> DrawLosses:
        step = eps * ball.steepest_ascent(direction)
        return torch.sigmoid(draw_losses + (gradients * step).flatten(2).sum(2))

    best, q = probabilities(gradients.mean(0)), torch.sigmoid(draw_losses)
    for _ in range(FRANK_WOLFE_STEPS):
        q = probabilities(((q * (1 - q))[..., None, None, None] * gradients).sum(0))
        best = torch.where(q.sum(0) > best.sum(0), q, best)
    return best
