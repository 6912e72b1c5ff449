"""Draws as PNG files: a grid for each class, and the draws that are most like a training image."""

from collections.abc import Sequence
from pathlib import Path

import torch

from scoreag.evaluation.memorization import NearestPairs
from scoreag.io.images import make_grid, write_png
from scoreag.metrics.feature_extractors import Pixels

FOLDER = "samples"
OWNED_FILES = (f"{FOLDER}/class-{3 * '[0-9]'}.png", f"{FOLDER}/nearest.png")
COLUMNS = 10
MAX_PER_CLASS = 100  # draws of a class


def select_class(pixels: Pixels, class_index: int, n_classes: int) -> Pixels:
    """The draws of one class, which are every ``classes``-th."""
    return pixels[class_index :: max(1, n_classes)]


def write_sample_grids(
    folder: Path, pixels: Pixels, classes: Sequence[str], pairs: NearestPairs
) -> list[str]:
    """Write samples/class-000.png, ... and samples/nearest.png; their names."""
    (folder / FOLDER).mkdir(exist_ok=True)
    sheets = {
        f"class-{number:03d}.png": make_grid(
            select_class(pixels, number, len(classes))[:MAX_PER_CLASS], COLUMNS
        )
        for number in range(max(1, min(len(classes), len(pixels))))
    }
    beside = torch.stack([pairs.generated, pairs.training], 1).flatten(0, 1)
    sheets["nearest.png"] = make_grid(beside, 2)
    for name, sheet in sheets.items():
        write_png(folder / FOLDER / name, sheet)
    return [f"{FOLDER}/{name}" for name in sheets]
