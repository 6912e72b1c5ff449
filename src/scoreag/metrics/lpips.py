"""Learned perceptual distance: LPIPS v0.1 with AlexNet; Zhang et al. (2018), eq. 1.

The weights are not bundled: ``load_lpips(features, heads)`` reads two .npz files, the convolutions
under the names ``features.N.weight`` and ``.bias`` for N = 0, 3, 6, 8, 10, the heads under
``linL.model.1.weight`` for L = 0 to 4.  The network was made for larger images: one of 32 x 32 has
maps of 7, 3, 1, 1 and 1 pixels a side.  Such distances are comparable only at the same image size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import BatchScalar, Images
from scoreag.io.bounded import read_npz
from scoreag.io.download import download_file
from scoreag.io.filesystem import atomic_write, cache_folder
from scoreag.io.safe_unpickler import load_tensors

LAYERS = (0, 3, 6, 8, 10)
STRIDES, PADDINGS, POOL_BEFORE = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), (False, True, True, False, False)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
MIN_SIDE = 31  # pixels a side: of a smaller image the second pooling leaves nothing
HEAD_KEY = "lin{}.model.1.weight"
CONVOLUTION_KEYS = [f"features.{n}.{part}" for n in LAYERS for part in ("weight", "bias")]
HEAD_KEYS = [HEAD_KEY.format(n) for n in range(len(LAYERS))]
FETCH = "fetch"
ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
ALEXNET_DIGEST = "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
HEADS_URL = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
    "alex.pth"
)
HEADS_DIGEST = "sha256:df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"


@dataclass(frozen=True)
class Lpips:
    """The metric, with its weights by the names in the files."""

    convolutions: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    batch_size: int = 128

    @torch.no_grad()
    def __call__(self, clean: Images, adversarial: Images) -> BatchScalar:
        """``sum_l mean_pixels w_l . (u_l - v_l)^2``, u and v of unit length in each pixel; >= 0."""
        pairs = zip(clean.split(self.batch_size), adversarial.split(self.batch_size), strict=True)
        return torch.cat([self._distance(a, b) for a, b in pairs])

    def embed(self, images: Images) -> Float[Tensor, "batch features"]:
        """Vectors whose squared Euclidean distance is the metric; differentiable."""
        parts = []
        for layer, u in enumerate(self._feature_maps(images)):
            head = self.heads[HEAD_KEY.format(layer)].to(images).clamp(min=0)
            parts.append((u * (head / u[0, 0].numel()).sqrt()).flatten(1))
        return torch.cat(parts, dim=1)

    def _distance(self, clean: Images, adversarial: Images) -> BatchScalar:
        maps = zip(self._feature_maps(clean), self._feature_maps(adversarial), strict=True)
        total = clean.new_zeros(len(clean))
        for layer, (u, v) in enumerate(maps):
            head = self.heads[HEAD_KEY.format(layer)].to(clean)
            total = total + F.conv2d((u - v).square(), head).mean((1, 2, 3))
        return total

    def _feature_maps(
        self, images: Images
    ) -> Iterator[Float[Tensor, "batch channel height width"]]:
        """The five maps after a ReLU, scaled to unit length along the channels."""
        shift, scale = images.new_tensor(SHIFT), images.new_tensor(SCALE)
        x = (2 * images - 1 - shift[:, None, None]) / scale[:, None, None]
        layers = zip(LAYERS, STRIDES, PADDINGS, POOL_BEFORE, strict=True)
        for layer, stride, padding, pooled in layers:
            weight = self.convolutions[f"features.{layer}.weight"].to(x)
            bias = self.convolutions[f"features.{layer}.bias"].to(x)
            x = F.max_pool2d(x, 3, 2) if pooled else x
            x = F.conv2d(x, weight, bias, stride=stride, padding=padding).relu()
            yield x / (x.norm(dim=1, keepdim=True) + 1e-10)


def load_lpips(features: Path, heads: Path) -> Lpips:
    """The metric with the weights of two .npz files."""
    return Lpips(_read_arrays(features, CONVOLUTION_KEYS), _read_arrays(heads, HEAD_KEYS))


def _read_arrays(path: Path, keys: list[str]) -> dict[str, Tensor]:
    try:
        arrays, _ = read_npz(path, keys)
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (ValueError, TypeError) as error:
        reason = str(error).removeprefix(f"{path} ")
        raise ValueError(f"{path} is no complete .npz file ({reason}); copy it again") from error
    for name in keys:
        if name not in tensors:
            raise ValueError(f"{path} has no array {name!r}; give the weights of LPIPS v0.1")
    return tensors


def resolve_weight_files(spec: str, progress: bool = True) -> tuple[Path, Path]:
    """The two .npz files of ``spec``: "FEATURES.npz,HEADS.npz", or "fetch".

    Raises:
        ValueError: these are not two files, or the download is not the published file.
        ConnectionError: the download fails.
    """
    if spec == FETCH:
        return download_lpips(cache_folder() / "lpips", progress)
    parts = [Path(part).expanduser() for part in spec.split(",")]
    if len(parts) != 2 or not all(part.is_file() for part in parts):
        raise ValueError(
            f"--lpips-weights {spec}: expected two files that are there, FEATURES.npz,HEADS.npz; "
            "or write --download-lpips"
        )
    return parts[0], parts[1]


def download_lpips(
    folder: Path, progress: bool = True, alexnet_url: str = ALEXNET_URL, heads_url: str = HEADS_URL
) -> tuple[Path, Path]:
    """The published weights, in ``folder``, downloaded if they are missing."""
    features, linear = folder / "alexnet_features.npz", folder / "alex_heads.npz"
    if features.is_file() and linear.is_file():
        return features, linear
    source = folder / Path(alexnet_url).name
    download_file(alexnet_url, source, ALEXNET_DIGEST, progress)
    download_file(heads_url, folder / "alex.pth", HEADS_DIGEST, progress)
    _write(features, load_tensors(source), CONVOLUTION_KEYS)
    _write(linear, load_tensors(folder / "alex.pth"), HEAD_KEYS)
    source.unlink()  # 230 MB, of which the convolutions need 10
    return features, linear


def _write(file: Path, tensors: Mapping[str, Tensor], names: list[str]) -> None:
    arrays = {name: tensors[name].numpy() for name in names}

    def save(path: Path) -> None:
        with path.open("wb") as opened:  # given a path, savez would add a suffix
            np.savez(opened, **arrays)  # type: ignore[arg-type]

    atomic_write(file, save)
