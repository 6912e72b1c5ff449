"""What score models are held against: the same images, the same judge, the same settings."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.types import Labels
from scoreag.data.loading import Dataset
from scoreag.diffusion.prior import Prior
from scoreag.evaluation.storage import load_or_compute
from scoreag.io.images import to_float
from scoreag.metrics.feature_extractors import FeatureExtractor, Features, Pixels, extract_features
from scoreag.models.model_cards import Card


@dataclass(frozen=True, eq=False)
class EvalContext:
    """What every score model is held against, and where the work is kept."""

    test: Dataset
    train: Dataset
    judge: NormalizedClassifier
    extractors: tuple[FeatureExtractor, ...]
    folder: Path
    n_images: int
    sampler: str
    nfe: int
    seed: int
    batch_size: int
    feature_batch_size: int
    device: torch.device
    progress: bool

    @cached_property
    def test_subset(self) -> Dataset:
        """As many test images as draws, or all."""
        return subsample(self.test, self.n_images)

    def cached_features(
        self, feature_extractor: FeatureExtractor, name: str, pixels: Pixels
    ) -> Features:
        """The features of some images, kept under ``name``."""

        def made(piece: range) -> Features:
            return extract_features(
                feature_extractor,
                pixels[piece.start : piece.stop],
                self.device,
                self.feature_batch_size,
            )

        name = f"features-{feature_extractor.name}-{feature_extractor.sha256[:12]}-{name}"
        return load_or_compute(
            self.folder, name, len(pixels), self.feature_batch_size, made, self.progress
        )

    def cached_predictions(self, name: str, pixels: Pixels) -> Labels:
        """What the judge says of some 8-bit images, kept under ``name``."""

        @torch.no_grad()
        def made(piece: range) -> Labels:
            part = to_float(pixels[piece.start : piece.stop].to(self.device))
            return self.judge(part).argmax(1)

        return load_or_compute(
            self.folder, f"said-{name}", len(pixels), self.feature_batch_size, made, self.progress
        )


@dataclass(frozen=True, eq=False)
class Model:
    """A score model with its card."""

    card: Card
    prior: Prior

    @property
    def cache_key(self) -> str:
        """Its place among what is kept."""
        return self.card.sha256[:12]

    @property
    def n_images_seen(self) -> int | None:
        return self.card.training_config.get("images_seen")


def subsample(data: Dataset, count: int) -> Dataset:
    """``count`` images at even distances, or all; one's own, whose classes may take turns, sorted.

    Of classes that take turns, every tenth image could be of one class.
    """
    if count >= len(data):
        return data
    rows = torch.arange(count) * len(data) // count
    if data.is_user_data and data.labels is not None:
        rows = data.labels.argsort(stable=True)[rows]
    return data.select(rows.tolist())
