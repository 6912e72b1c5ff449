"""The denoising loss by noise level, on given images: what training drives down, level by level.

Karras et al. (2022), table 1.  That it falls on training images and not on others is overfitting.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.io.images import to_float
from scoreag.training.denoising_loss import edm

SIGMA_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # units of the state
MAX_IMAGES = 1000  # images of a set that are asked about


@torch.no_grad()
def measure_denoising_loss(
    prior: Prior,
    pixels: UInt8[Tensor, "count channel height width"],
    labels: Labels | None,
    image_ids: list[int],
    sigma_data: float,
    pad_to: int = 0,
) -> Float[Tensor, "count levels"]:
    """``w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, of each image at each level.

    ``w = (sigma^2 + sd^2) / (sigma sd)^2``, EDM's, whatever family was trained.  The noise n is
    keyed by the image, and is another one at each level.

    Args:
        pad_to: the network sees as many images, the last of them repeated.
    """
    count, device = len(pixels), prior.sigmas.device
    chosen = [*range(count), *[count - 1] * (pad_to - count)]
    x0 = to_model_range(to_float(pixels[chosen].to(device)))
    told = None if labels is None else labels[chosen].to(device)
    source = Noise(0, [image_ids[i] for i in chosen]).fold_in("loss")
    weight, found = edm(sigma_data).weight, []
    for place, level in enumerate(SIGMA_LEVELS):
        sigma = torch.tensor(level, device=device)
        error = prior.model(x0 + sigma * source.fold_in(place).normal_like(x0), sigma, told) - x0
        found.append(weight(sigma[None]) * error.square().flatten(1).mean(1)[:count])
    return torch.stack(found, 1).cpu()
