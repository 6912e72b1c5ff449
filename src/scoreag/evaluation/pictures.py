"""Draws as PNG files: a grid for each class, and the draws that are most like a training image."""

from collections.abc import Sequence
from pathlib import Path

import torch

from scoreag.evaluation.copies import Pairs
from scoreag.figures.features import Pixels
from scoreag.images import grid, write_png

FOLDER = "samples"
OURS = (f"{FOLDER}/class-{3 * '[0-9]'}.png", f"{FOLDER}/nearest.png")
COLUMNS = 10
SHOWN = 100  # draws of a class


def of_class(pixels: Pixels, number: int, classes: int) -> Pixels:
    """The draws of one class, which are every ``classes``-th."""
    return pixels[number :: max(1, classes)]


def write(folder: Path, pixels: Pixels, classes: Sequence[str], pairs: Pairs) -> list[str]:
    """Write samples/class-000.png, ... and samples/nearest.png; their names."""
    (folder / FOLDER).mkdir(exist_ok=True)
    sheets = {
        f"class-{number:03d}.png": grid(of_class(pixels, number, len(classes))[:SHOWN], COLUMNS)
        for number in range(max(1, min(len(classes), len(pixels))))
    }
    beside = torch.stack([pairs.drawn, pairs.training], 1).flatten(0, 1)
    sheets["nearest.png"] = grid(beside, 2)
    for name, sheet in sheets.items():
        write_png(folder / FOLDER / name, sheet)
    return [f"{FOLDER}/{name}" for name in sheets]
