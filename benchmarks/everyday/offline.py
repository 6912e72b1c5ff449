"""What the other tools expect of a network, without one: imported before each script of the tasks.

RobustBench imports ``autoattack``, which its requirements take from a git address; PyPI has the
same code as ``pyautoattack``.  Torchvision's CIFAR10 reads the python pickles that it downloads;
here it reads the binary files of the same data, in the folder SCOREAG_DATA.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def use() -> None:
    """Make both stand-ins importable, where the other tools are installed."""
    import pyautoattack
    from pyautoattack import state

    sys.modules["autoattack"], sys.modules["autoattack.state"] = pyautoattack, state
    import torchvision.datasets

    torchvision.datasets.CIFAR10 = BinaryCIFAR10


class BinaryCIFAR10:
    """``torchvision.datasets.CIFAR10`` on the binary layout: pictures and labels by position."""

    def __init__(self, root: Any, train: bool, transform: Any = None, download: bool = False):
        names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
        folder = Path(os.environ["SCOREAG_DATA"], "cifar-10-batches-bin")
        rows = np.concatenate([np.fromfile(folder / name, np.uint8) for name in names])
        rows = rows.reshape(-1, 3073)
        self.labels, self.transform = rows[:, 0].tolist(), transform
        self.pixels = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        from PIL import Image

        picture = Image.fromarray(self.pixels[i])
        return (self.transform(picture) if self.transform else picture), self.labels[i]
