"""What an attack raises: a number an image that grows as the classifier errs.

``z`` are the logits, ``y`` the label; z_(1) >= z_(2) >= ... are the logits in order.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F

from scoreag.core.types import Labels, Logits, PerImage
from scoreag.core.verdict import ahead

Loss: TypeAlias = Callable[[Logits, Labels], PerImage]
LossTowards: TypeAlias = Callable[[Logits, Labels, Labels], PerImage]  # with the classes aimed at
TINY = 1e-12  # keeps the ratio of a classifier whose logits are all alike a number


def cross_entropy(logits: Logits, labels: Labels) -> PerImage:
    """``-log softmax(z)_y``; its gradient fades where the classifier is very sure."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Logits, labels: Labels) -> PerImage:
    """``max_{i != y} z_i - z_y``: above 0 where it errs; Carlini & Wagner (2017), f_6."""
    return -ahead(logits, labels)


def dlr(logits: Logits, labels: Labels) -> PerImage:
    """``(max_{i != y} z_i - z_y) / (z_(1) - z_(3))``; Croce & Hein (2020), eq. 6.

    The same for ``a z + b``, so that no scale of the logits hides the gradient; needs 3 classes.
    """
    _enough(logits, 3, "dlr")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + TINY)


def log_wrong(logits: Logits, labels: Labels) -> PerImage:
    """``log(1 - p_y)``: its gradient fades once the label is given up, and not before."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return F.logsigmoid(others.logsumexp(1) - _of(logits, labels))


def margin_towards(logits: Logits, labels: Labels, targets: Labels) -> PerImage:
    """``z_t - z_y``."""
    return _of(logits, targets) - _of(logits, labels)


def dlr_towards(logits: Logits, labels: Labels, targets: Labels) -> PerImage:
    """``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``; Croce & Hein (2020), eq. 7; 4 classes."""
    _enough(logits, 4, "dlr with targets")
    top = logits.topk(4, dim=1).values
    return margin_towards(logits, labels, targets) / (
        top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + TINY
    )


def cross_entropy_towards(logits: Logits, labels: Labels, targets: Labels) -> PerImage:
    """``log softmax(z)_t``."""
    return -F.cross_entropy(logits, targets, reduction="none")


def likeliest_others(logits: Logits, labels: Labels, count: int) -> torch.Tensor:
    """The ``count`` likeliest classes but the label, the likeliest first, one row an image."""
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def _of(logits: Logits, classes: Labels) -> PerImage:
    return logits.gather(1, classes[:, None]).squeeze(1)


def _enough(logits: Logits, least: int, name: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(
            f"the loss {name} needs {least} classes, and the classifier knows {logits.shape[1]}; "
            "write loss 'margin'"
        )


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": dlr}
TARGETED: dict[str, LossTowards] = {
    "ce": cross_entropy_towards,
    "margin": margin_towards,
    "dlr": dlr_towards,
}
