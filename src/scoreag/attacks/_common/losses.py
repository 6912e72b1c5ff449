"""Losses that an attack raises: a number an image that grows as the classifier errs.

``z`` are the logits, ``y`` the label; z_(1) >= z_(2) >= ... are the logits in order.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F

from scoreag.core.types import BatchScalar, Labels, Logits
from scoreag.diffusion.likelihoods import logit_margin

Loss: TypeAlias = Callable[[Logits, Labels], BatchScalar]
TargetedLoss: TypeAlias = Callable[[Logits, Labels, Labels], BatchScalar]  # ..., labels, targets
TINY = 1e-12  # keeps the ratio finite where all logits are equal


def cross_entropy(logits: Logits, labels: Labels) -> BatchScalar:
    """``-log softmax(z)_y``; its gradient fades where the classifier is very sure."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Logits, labels: Labels) -> BatchScalar:
    """``max_{i != y} z_i - z_y``: above 0 where it errs; Carlini & Wagner (2017), f_6."""
    return -logit_margin(logits, labels)


def dlr(logits: Logits, labels: Labels) -> BatchScalar:
    """``(max_{i != y} z_i - z_y) / (z_(1) - z_(3))``; Croce & Hein (2020), eq. 6.

    The same for ``a z + b``: no scale of the logits hides the gradient. Needs 3 classes.
    """
    _require_classes(logits, 3, "dlr")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + TINY)


def targeted_margin(logits: Logits, labels: Labels, targets: Labels) -> BatchScalar:
    """``z_t - z_y``."""
    return _gather_logits(logits, targets) - _gather_logits(logits, labels)


def targeted_dlr(logits: Logits, labels: Labels, targets: Labels) -> BatchScalar:
    """``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``; Croce & Hein (2020), eq. 7; 4 classes."""
    _require_classes(logits, 4, "dlr with targets")
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, labels, targets) / (
        top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY
    )


def targeted_cross_entropy(logits: Logits, labels: Labels, targets: Labels) -> BatchScalar:
    """``log softmax(z)_t``."""
    return -F.cross_entropy(logits, targets, reduction="none")


def top_k_wrong_classes(logits: Logits, labels: Labels, k: int) -> torch.Tensor:
    """The ``k`` likeliest classes except the label, the likeliest first, one row an image."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(k, logits.shape[1] - 1), dim=1).indices


def _gather_logits(logits: Logits, classes: Labels) -> BatchScalar:
    return logits.gather(1, classes[:, None]).squeeze(1)


def _require_classes(logits: Logits, minimum: int, name: str) -> None:
    if logits.shape[1] < minimum:
        raise ValueError(
            f"the loss {name} needs {minimum} classes, and the classifier knows {logits.shape[1]}; "
            "write loss 'margin'"
        )


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
TARGETED_LOSSES: dict[str, TargetedLoss] = {
    "ce": targeted_cross_entropy,
    "margin": targeted_margin,
    "dlr": targeted_dlr,
}
