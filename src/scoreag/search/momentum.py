"""Steps of equal size along the sign of an accumulated gradient; Dong et al. (2018)."""

from collections.abc import Callable

import torch
from torch import Tensor

from scoreag.core.types import Images
from scoreag.search.balls import within


def momentum_steps(
    gradient: Callable[[Images, int], Images],
    images: Images,
    epsilon: float,
    steps: int,
    decay: float,
    look_ahead: bool = False,
) -> Images:
    """``g <- decay g + grad / mean|grad|``, ``x <- x + epsilon / steps sign(g)``, from the image.

    After ``steps`` steps the linf ball of radius epsilon is just used up.

    Args:
        gradient: of the loss, at some images and in a step.
        look_ahead: take the gradient where the momentum leads to (Nesterov), not where one is.
    """
    step, point, velocity = epsilon / steps, images, torch.zeros_like(images)
    for i in range(steps):
        seen = point + step * decay * velocity if look_ahead else point
        found = gradient(seen, i)
        velocity = decay * velocity + found / _mean_size(found)
        point = within(images, (point + step * velocity.sign() - images) / epsilon, epsilon)
    return point


def _mean_size(gradient: Images) -> Tensor:
    return gradient.abs().flatten(1).mean(1).clamp(min=1e-30)[:, None, None, None]
