"""A classifier's mean logits over random views of each image, for attacks that should transfer.

What fools one network along its own small details fails on another; what fools it in many views is
shared more often.  Xie et al. (2019) and Dong et al. (2019) for attacks in a ball.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Logits

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
    maps = images.new_zeros(len(images), 2, 3)
    maps[:, 0, 0], maps[:, 1, 1] = mirror * zoom, zoom
    maps[:, :, 2] = 2 * MAX_SHIFT * signed[:, 2:4]  # the grid's side is 2
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * (1 + MAX_BRIGHTNESS * signed[:, 4]).view(-1, 1, 1, 1)
