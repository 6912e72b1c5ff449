"""Steps of equal size along the sign of an accumulated gradient; Dong et al. (2018)."""

from collections.abc import Callable

import torch
from torch import Tensor

from scoreag.attacks._common.norms import apply_perturbation
from scoreag.core.types import Images


def run_mi_fgsm(
    gradient: Callable[[Images, int], Images],
    images: Images,
    eps: float,
    steps: int,
    decay: float,
    nesterov: bool = False,
) -> Images:
    """``g <- decay g + grad / mean|grad|``, ``x <- x + epsilon / steps sign(g)``, from the image.

    After ``steps`` steps the linf ball of radius epsilon is just used up.

    Args:
        gradient: of the loss, at some images and in a step.
        look_ahead: take the gradient where the momentum leads to (Nesterov), not where one is.
    """
    step, point, velocity = eps / steps, images, torch.zeros_like(images)
    for i in range(steps):
        seen = point + step * decay * velocity if nesterov else point
        found = gradient(seen, i)
        velocity = decay * velocity + found / _mean_abs(found)
        point = apply_perturbation(images, (point + step * velocity.sign() - images) / eps, eps)
    return point


def _mean_abs(gradient: Images) -> Tensor:
    return gradient.abs().flatten(1).mean(1).clamp(min=1e-30)[:, None, None, None]
