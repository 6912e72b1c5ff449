"""What score models are held against: the same images, the same judge, the same settings."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from scoreag.cards import Card
from scoreag.core.frozen import Frozen
from scoreag.core.prior import Prior
from scoreag.core.types import Labels
from scoreag.dataset import Dataset
from scoreag.evaluation.shards import kept
from scoreag.figures.features import Extractor, Features, Pixels, features
from scoreag.images import to_float


@dataclass(frozen=True, eq=False)
class Bench:
    """What every score model is held against, and where the work is kept."""

    test: Dataset
    train: Dataset
    judge: Frozen
    extractors: tuple[Extractor, ...]
    folder: Path
    images: int
    sampler: str
    calls: int
    seed: int
    micro_batch: int
    batch: int
    device: torch.device
    progress: bool

    @cached_property
    def asked(self) -> Dataset:
        """As many test images as draws, or all."""
        return spread(self.test, self.images)

    def features(self, extract: Extractor, name: str, pixels: Pixels) -> Features:
        """The features of some images, kept under ``name``."""

        def made(piece: range) -> Features:
            return features(extract, pixels[piece.start : piece.stop], self.device, self.batch)

        name = f"features-{extract.name}-{extract.sha256[:12]}-{name}"
        return kept(self.folder, name, len(pixels), self.batch, made, self.progress)

    def said(self, name: str, pixels: Pixels) -> Labels:
        """What the judge says of some 8-bit images, kept under ``name``."""

        @torch.no_grad()
        def made(piece: range) -> Labels:
            part = to_float(pixels[piece.start : piece.stop].to(self.device))
            return self.judge(part).argmax(1)

        return kept(self.folder, f"said-{name}", len(pixels), self.batch, made, self.progress)


@dataclass(frozen=True, eq=False)
class Model:
    """A score model with its card."""

    card: Card
    prior: Prior

    @property
    def key(self) -> str:
        """Its place among what is kept."""
        return self.card.sha256[:12]

    @property
    def images_seen(self) -> int | None:
        return self.card.recipe.get("images_seen")


def spread(data: Dataset, count: int) -> Dataset:
    """``count`` images at even distances, or all; one's own, whose classes may take turns, sorted.

    Of classes that take turns, every tenth image could be of one class.
    """
    if count >= len(data):
        return data
    rows = torch.arange(count) * len(data) // count
    if data.own and data.labels is not None:
        rows = data.labels.argsort(stable=True)[rows]
    return data.at(rows.tolist())
