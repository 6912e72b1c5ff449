"""A classifier's mean logits over random views of each image, for attacks that should transfer.

What fools one network along its own small details fails on another; what fools it in many views is
shared more often.  Xie et al. (2019) and Dong et al. (2019) for attacks in a ball.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Logits

MAX_SHIFT = 0.1  # of the side
MAX_ZOOM = 0.15  # relative change of the size
MAX_BRIGHTNESS = 0.2  # relative change of all pixels


def average_views(classifier: Classifier, views: int, noise: Noise) -> Callable[[Images], Logits]:
    """The mean of the logits of ``views`` random views; every call has its own views.

    A view is mirrored in half of all cases, moved, zoomed and made darker or brighter.  The result
    is differentiable in the images, which may be x0-estimates outside [0, 1].
    """
    classify = getattr(classifier, "forward_unclamped", classifier)
    calls = 0

    def averaged(images: Images) -> Logits:
        nonlocal calls
        source, calls = noise.fold_in("views", calls), calls + 1
        seen = [random_view(images, source.fold_in(k)) for k in range(views)]
        logits: Logits = classify(torch.cat(seen))
        return logits.unflatten(0, (views, len(images))).mean(0)

    return averaged


def random_view(images: Images, noise: Noise) -> Images:
    """A random view of each image, with its border repeated beyond the edge."""
    u = noise.uniform_like(images.new_zeros(len(images), 5))
    signed = 2 * u - 1
    zoom = 1 + MAX_ZOOM * signed[:, 0]
    mirror = torch.where(u[:, 1] < 0.5, -1.0, 1.0).to(images)
    across = interpolation(mirror * zoom, MAX_SHIFT * signed[:, 2], images.shape[3])
    down = interpolation(zoom, MAX_SHIFT * signed[:, 3], images.shape[2])
    moved = down[:, None] @ images @ across[:, None].mT
    return moved * (1 + MAX_BRIGHTNESS * signed[:, 4]).view(-1, 1, 1, 1)


def interpolation(
    scale: BatchScalar, shift: BatchScalar, size: int
) -> Float[Tensor, "batch size size"]:
    """The matrices of linear interpolation at ``c + scale (i - c) + shift size`` along one side.

    ``c`` is the middle; beyond the edge the border is repeated.  A product with matrices has
    derivatives of any order, which ``grid_sample`` has not in every release of torch.
    """
    places = torch.arange(size, dtype=scale.dtype, device=scale.device)
    middle = (size - 1) / 2
    at = middle + scale[:, None] * (places - middle) + size * shift[:, None]
    return (1 - (at.clamp(0, size - 1)[:, :, None] - places).abs()).clamp(min=0)
