"""The 20 CIFAR-10 images that the package foolbox carries: the first of the test split."""

from importlib.util import find_spec
from pathlib import Path

import torch

from scoreag.data.cifar10 import CLASSES
from scoreag.data.source import Labels, Pixels, Source
from scoreag.io.images import read_png


def load(split_name: str = "") -> Source:
    """Those images in their order, as position in the test split and label are in their names."""
    if split_name:
        raise ValueError(
            "foolbox-samples has no splits: write 'foolbox-samples', not "
            f"'foolbox-samples:{split_name}'"
        )
    spec = find_spec("foolbox")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(path for f in folders for path in Path(f, "data").glob("cifar10_*_*.png"))
    if not files:
        raise ValueError(
            "foolbox-samples are in the package foolbox: pip install 'scoreag[foolbox]'"
        )

    def read(positions: range) -> tuple[Pixels, Labels]:
        chosen = [files[i] for i in positions]
        labels = [int(path.stem.split("_")[2]) for path in chosen]
        return torch.stack([read_png(path) for path in chosen]), torch.tensor(labels)

    return Source(len(files), read, [int(path.stem.split("_")[1]) for path in files], CLASSES)
