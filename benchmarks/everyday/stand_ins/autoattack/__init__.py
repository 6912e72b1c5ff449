"""What RobustBench expects of a network, without one.  This folder is put on its path.

RobustBench imports ``autoattack``, which its requirements take from a git address; PyPI has the
authors' code as ``pyautoattack``, without log files and with another word for the batch size.
Torchvision's CIFAR10 reads python pickles that it downloads; here it reads the binary files of the
same data, in the folder SCOREAG_DATA.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torchvision.datasets
from PIL import Image
from pyautoattack import AutoAttack as OnPyPI


class AutoAttack(OnPyPI):
    """The same, called as RobustBench calls it."""

    def __init__(self, model: Any, log_path: None = None, **options: Any):
        super().__init__(model, **options)

    def run_standard_evaluation(self, x: Any, y: Any, bs: int, state_path: None = None) -> Any:
        return super().run_standard_evaluation(x, y, batch_size=bs)[0]  # and the labels


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
        picture = Image.fromarray(self.pixels[i])
        return (self.transform(picture) if self.transform else picture), self.labels[i]


torchvision.datasets.CIFAR10 = BinaryCIFAR10
