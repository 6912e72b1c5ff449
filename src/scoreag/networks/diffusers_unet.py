"""The UNet2DModel of the package diffusers, with attention that has a second derivative."""

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width


class DiffusersUNet(nn.Module):
    """A ``UNet2DModel`` of diffusers, as a network of this package.

    Args:
        config: of ``UNet2DModel``, as in its config.json: text, since a card knows no ``null``.

    Raises:
        ValueError: the package is not installed.
    """

    def __init__(self, image_shape: Sequence[int], classes: int, config: str) -> None:
        super().__init__()
        try:
            library: Any = import_module("diffusers")
            plain: Any = import_module("diffusers.models.attention_processor").AttnProcessor
        except ModuleNotFoundError as error:
            raise ValueError(
                f"this model needs {error.name}; write pip install diffusers"
            ) from error
        self.image_shape, self.classes = tuple(image_shape), classes
        self.unet = library.UNet2DModel.from_config(json.loads(config))
        for layer in self.unet.modules():  # fused kernels have no second derivative
            if hasattr(layer, "set_processor"):
                layer.set_processor(plain())

    def forward(
        self, x: Maps, time: Float[Tensor, " _"], labels: Int[Tensor, " _"] | None = None
    ) -> Maps:
        if self.classes and labels is None:
            raise ValueError("this network was never asked without a label; give labels")
        told = labels if self.classes else None
        return self.unet(x, time, class_labels=told).sample[:, : x.shape[1]]


build = DiffusersUNet
