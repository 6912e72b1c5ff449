"""A module as a pure function: its weights are constants, in the precision of its input."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Frozen(nn.Module):
    """``module`` on normalised images, whose weights take no part in any gradient.

    The module itself is not touched: not its mode, not its ``requires_grad``, not its dtype.

    Args:
        mean, std: of the channels, as the module was trained: it sees ``(images - mean) / std``.
        origin: what a manifest says of the module: its name, sha256, licence.
        image_shape: the (channels, height, width) that it was trained on, where that is known.
    """

    def __init__(
        self,
        module: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        origin: Mapping[str, Any] | None = None,
        image_shape: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.module, self.image_shape = module, image_shape
        self.mean, self.std = tuple(mean), tuple(std)
        self.origin = dict(origin or {"name": type(module).__name__})

    def forward(self, images: Tensor) -> Tensor:
        if len(self.mean) not in (1, images.shape[1]):  # else one colour would be shown as three
            raise ValueError(
                f"it is normalised with {len(self.mean)} numbers, one a colour, and the images "
                f"have {images.shape[1]}; give a classifier of such images"
            )
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        return functional_call(self.module, self._constants(images), (images - mean) / std)

    def _constants(self, like: Tensor) -> dict[str, Tensor]:
        tensors = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return {
            name: value.detach().to(like) if value.is_floating_point() else value.detach()
            for name, value in tensors.items()
        }


def returns_probabilities(logits: Tensor) -> bool:
    """Do all rows look like the output of a softmax: none negative, and a sum of one?"""
    total = logits.sum(1)
    return bool((logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-4))
