"""The UNet2DModel of the package diffusers, with attention that has a second derivative."""

import json
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scoreag.diffusion.networks.edm_blocks import Maps


class DiffusersUNet(nn.Module):
    """A ``UNet2DModel`` of diffusers, as a network of this package.

    Args:
        config: the text of its config.json, as a card has no ``null``.
        null_label: the network has one more label than ``classes``, which stands for no class.
        unit: its images are in [0, 1].
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        classes: int,
        config: str,
        null_label: bool = False,
        unit: bool = False,
    ) -> None:
        super().__init__()
        try:
            library: Any = import_module("diffusers")
            plain: Any = import_module("diffusers.models.attention_processor").AttnProcessor
        except ModuleNotFoundError as error:
            raise ValueError(
                f"this model needs {error.name}; write pip install diffusers"
            ) from error
        self.image_shape, self.classes = tuple(image_shape), classes
        self.null_label, self.unit = null_label, unit
        known = signature(library.UNet2DModel.__init__).parameters  # others cause warnings
        options = {name: value for name, value in json.loads(config).items() if name in known}
        self.unet = library.UNet2DModel.from_config(options)
        for layer in self.unet.modules():  # fused kernels have no second derivative
            if hasattr(layer, "set_processor"):
                layer.set_processor(plain())

    def forward(
        self, x: Maps, time: Float[Tensor, " _"], labels: Int[Tensor, " _"] | None = None
    ) -> Maps:
        if labels is None and self.null_label:
            labels = torch.full((len(x),), self.classes, dtype=torch.int64, device=x.device)
        if self.classes and labels is None:
            raise ValueError(
                "this network was not trained without labels; give labels. "
                f"{self.null_label_hint}, or take a model without classes"
            )
        images = (x + 1) / 2 if self.unit else x
        class_labels = labels if self.classes else None
        return self.unet(images, time, class_labels=class_labels).sample[:, : x.shape[1]]

    @property
    def null_label_hint(self) -> str:
        """What to do if the number of classes is not the expected one."""
        if not self.classes:
            return ""
        if self.null_label:
            return (
                f"Its {self.classes + 1} labels are read as {self.classes} classes and a null "
                "label; if all are classes, convert its folder with --config "
                """'{"null_label": false}'"""
            )
        return (
            f"If the last of its {self.classes} labels is a null label, convert its folder with "
            """--config '{"null_label": true}'"""
        )


build = DiffusersUNet
