"""What may be done to a training image without changing what it shows."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from scoreag.core.rng import Stream
from scoreag.core.types import Images

Crops = Float[Tensor, "_ _ _ _"]


def random_flip(images: Images, source: Stream) -> Images:
    """Each image mirrored left to right with probability one half."""
    mirrored = (source.uniform((len(images),)) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def alternating_flip(images: Images, ids: Int[Tensor, " batch"], epoch: int) -> Images:
    """Each image mirrored in every other epoch, half of them in the even ones.

    Two epochs then show 2 views of each image, where ``flip`` shows 1.5 (Jordan 2024).
    """
    mirrored = (((ids * 2654435761) // 65536 + epoch) % 2 == 0).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def random_shift(images: Images, pixels: int, source: Stream) -> Images:
    """Each image moved by up to ``pixels`` along both axes, its border mirrored to fill the gap."""
    return random_crop(pad(images, (pixels,) * 4, mode="reflect"), tuple(images.shape[2:]), source)


def random_crop(images: Images, size: tuple[int, ...], source: Stream) -> Crops:
    """A window of ``size`` (height, width) of each image, anywhere with equal probability."""
    count, _, high, wide = images.shape
    height, width = size
    top = source.integers(high - height + 1, (count, 1, 1))
    left = source.integers(wide - width + 1, (count, 1, 1))
    rows, columns = top + torch.arange(height)[:, None], left + torch.arange(width)
    return images[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
