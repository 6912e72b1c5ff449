"""Features for comparing images: of the reference classifier, EfficientNet, Inception or the user.

FID proper is the Fréchet distance in the features of one Inception network of 2015.  Its weights
are not bundled: ``inception:FILE`` reads them from a state dict, as pytorch-fid and torch-fidelity
publish it.  TorchScript files of them are programs, which are not run here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from scoreag.classifiers import efficientnet
from scoreag.classifiers.build import call_factory
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.types import Images
from scoreag.io.images import to_float
from scoreag.io.safe_unpickler import load_tensors
from scoreag.metrics.inception import Inception
from scoreag.models.identity import model_identity
from scoreag.registry import did_you_mean

Features = Float[Tensor, "_ features"]
Pixels = UInt8[Tensor, "_ channel height width"]
DEFAULT_BATCH_SIZE = 250  # images


@dataclass(frozen=True)
class FeatureExtractor:
    """A network's features of images in [0, 1], its name, and the digest of its weights."""

    name: str
    extract: Callable[[Images], Features]
    sha256: str


def load_extractor(
    spec: str, judge: NormalizedClassifier, shape: tuple[int, int, int], device: Any
) -> FeatureExtractor:
    """The extractor for judge, efficientnet, inception:FILE, or package.module:factory.

    Raises:
        ValueError: there is none, or it cannot take images of this shape.
    """
    if spec == "judge":
        extractor = judge_extractor(judge)
    elif spec == "efficientnet":
        extractor = load_efficientnet(device)
    elif spec.startswith("inception:"):
        extractor = load_inception(Path(spec.partition(":")[2]), device)
    elif ":" in spec:
        module = call_factory(spec).to(device).eval()
        extractor = _from_module(spec.rpartition(":")[2], module)
    else:
        known = ["judge", "efficientnet"]
        raise ValueError(
            f"no features {spec!r}; {did_you_mean(spec, known)}, inception:FILE, or one's own: "
            "package.module:factory"
        )
    _validate_extractor(extractor, shape, device)
    return extractor


def _from_module(
    name: str, module: nn.Module, extract: Callable[[Images], Features] | None = None
) -> FeatureExtractor:
    return FeatureExtractor(name, extract or module, model_identity(module, {})["sha256"])


def judge_extractor(judge: NormalizedClassifier) -> FeatureExtractor:
    """The input of the last layer of a classifier."""
    if judge.features is None:
        kind = type(judge.module).__name__
        raise ValueError(
            f"the judge, a {kind}, has no features(images), the input of its last layer; give it "
            "that method, or another reference classifier or feature extractor"
        )
    digest = model_identity(judge.module, judge.metadata)["sha256"]
    return FeatureExtractor("judge", judge.features, digest)


def load_efficientnet(device: Any) -> FeatureExtractor:
    """The 1280 means before the last layer of EfficientNet-Lite0 (ImageNet), at 224 x 224.

    Raises:
        ValueError: its two packages are not installed.
    """
    module: Any = efficientnet.load_network().to(device)

    def extract(images: Images) -> Features:
        large = efficientnet.enlarge(images).clamp(0, 1)
        return module.extract_features((large - efficientnet.SHIFT) / efficientnet.SCALE).mean(
            (2, 3)
        )

    return _from_module("efficientnet", module, extract)


def load_inception(file: Path, device: Any) -> FeatureExtractor:
    """The 2048 means of Inception v3, in which FID is measured, with the weights of ``file``.

    Raises:
        ValueError: the file holds no such weights, or more than tensors.
    """
    if not file.is_file():
        raise ValueError(f"--feature-extractor inception:{file}: there is no such file")
    module = Inception()
    try:
        module.load_state_dict(load_tensors(file))
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"--feature-extractor inception:{file}: these are not the weights of the Inception of "
            f"FID ({reason}); give pt_inception-2015-12-05-6726825d.pth of pytorch-fid"
        ) from None
    module = module.to(device).eval().requires_grad_(False)
    return _from_module("inception", module)


@torch.no_grad()
def extract_features(
    feature_extractor: FeatureExtractor,
    pixels: Pixels,
    device: Any,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> Features:
    """The features of 8-bit images, computed in batches."""
    batches = (to_float(part.to(device)) for part in pixels.split(batch_size))
    return torch.cat([feature_extractor.extract(batch).cpu() for batch in batches])


@torch.no_grad()
def _validate_extractor(
    feature_extractor: FeatureExtractor, shape: tuple[int, int, int], device: Any
) -> None:
    """Try the extractor on two gray images."""
    size = " x ".join(map(str, shape))
    try:
        found = feature_extractor.extract(torch.full((2, *shape), 0.5, device=device))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{feature_extractor.name} cannot take images of {size}: {reason}"
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"{feature_extractor.name} returned {got} for 2 images; expected (2, features)"
        )
