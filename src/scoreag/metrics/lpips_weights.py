"""The weights of LPIPS with AlexNet: two files that were given, or the published ones, fetched."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from scoreag.io.download import download_file
from scoreag.io.filesystem import atomic_write, cache_folder, load_tensors
from scoreag.metrics.lpips import HEAD_KEY, LAYERS

FETCH = "fetch"
ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
ALEXNET_DIGEST = "sha256:7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
HEADS_URL = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
    "alex.pth"
)
HEADS_DIGEST = "sha256:df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"


def resolve_weight_files(spec: str, progress: bool = True) -> tuple[Path, Path]:
    """The two .npz files of ``word``: "FEATURES.npz,HEADS.npz", or "fetch".

    Raises:
        ValueError: these are not two files that are there, or what came is not what is published.
        ConnectionError: the published ones cannot be fetched.
    """
    if spec == FETCH:
        return download_lpips(cache_folder() / "lpips", progress)
    parts = [Path(part).expanduser() for part in spec.split(",")]
    if len(parts) != 2 or not all(part.is_file() for part in parts):
        raise ValueError(
            f"--lpips {spec}: expected two files that are there, FEATURES.npz,HEADS.npz, or fetch"
        )
    return parts[0], parts[1]


def download_lpips(
    folder: Path, progress: bool = True, alexnet_url: str = ALEXNET_URL, heads_url: str = HEADS_URL
) -> tuple[Path, Path]:
    """The published weights, in ``folder``, fetched where they are not there yet."""
    features, linear = folder / "alexnet_features.npz", folder / "alex_heads.npz"
    if features.is_file() and linear.is_file():
        return features, linear
    source = folder / Path(alexnet_url).name
    download_file(alexnet_url, source, ALEXNET_DIGEST, progress)
    download_file(heads_url, folder / "alex.pth", HEADS_DIGEST, progress)
    wanted = [f"features.{n}.{part}" for n in LAYERS for part in ("weight", "bias")]
    _write(features, load_tensors(source), wanted)
    _write(linear, load_tensors(folder / "alex.pth"), [HEAD_KEY.format(n) for n in range(5)])
    source.unlink()  # 230 MB, of which the convolutions are 10
    return features, linear


def _write(file: Path, tensors: Mapping[str, Tensor], wanted: list[str]) -> None:
    arrays = {name: tensors[name].numpy() for name in wanted}

    def save(aside: Path) -> None:
        with aside.open("wb") as opened:  # by its name, savez would add a suffix
            np.savez(opened, **arrays)  # type: ignore[arg-type]

    atomic_write(file, save)
