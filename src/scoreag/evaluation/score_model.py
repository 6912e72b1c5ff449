"""A score model's metrics: how like real images its samples are, how varied, how far from copies.

All score models are compared on the same images, with the same judge and the same configuration;
what is computed once is kept in the folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.types import Labels
from scoreag.data.loading import Dataset
from scoreag.diffusion.prior import Prior
from scoreag.evaluation import sampling
from scoreag.evaluation.score_metrics import (
    MAX_IMAGES,
    SIGMA_LEVELS,
    NearestPairs,
    distance_quantiles,
    find_nearest_in_pixels,
    measure_denoising_loss,
    measure_sample_quality,
    select_closest,
)
from scoreag.evaluation.storage import load_or_compute
from scoreag.io.images import to_float
from scoreag.io.manifest import cpu_name
from scoreag.metrics.feature_distances import Nearest, find_nearest
from scoreag.metrics.feature_extractors import FeatureExtractor, Features, Pixels, extract_features
from scoreag.models.model_cards import Card
from scoreag.stats.estimates import MetricEntry, estimate_mean, estimate_quantile, from_proportion
from scoreag.stats.proportion import compute_proportion

TRAIN_PER_SAMPLE = 10  # training images, for each sample, that are compared in features
SAMPLES, TEST_IMAGES = "draws", "test images"


@dataclass(frozen=True, eq=False)
class Model:
    """A score model with its card."""

    card: Card
    prior: Prior

    @property
    def cache_key(self) -> str:
        return self.card.sha256[:12]

    @property
    def n_images_seen(self) -> int | None:
        return self.card.training_config.get("images_seen")


@dataclass(frozen=True, eq=False)
class EvalContext:
    """What every score model is compared on, and where the results are kept."""

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
        """As many test images as samples, or all."""
        return subsample(self.test, self.n_images)

    def cached(
        self, name: str, count: int, chunk_size: int, compute: Callable[[range], Tensor]
    ) -> Tensor:
        return load_or_compute(self.folder, name, count, chunk_size, compute, self.progress)

    def cached_features(self, extractor: FeatureExtractor, name: str, pixels: Pixels) -> Features:
        """The features of some images, kept under ``name``."""
        size = self.feature_batch_size

        def compute(positions: range) -> Features:
            part = pixels[positions.start : positions.stop]
            return extract_features(extractor, part, self.device, size)

        name = f"features-{extractor.name}-{extractor.sha256[:12]}-{name}"
        return self.cached(name, len(pixels), size, compute)

    def cached_predictions(self, name: str, pixels: Pixels) -> Labels:
        """The judge's predictions for some 8-bit images, kept under ``name``."""

        @torch.no_grad()
        def compute(positions: range) -> Labels:
            part = to_float(pixels[positions.start : positions.stop].to(self.device))
            return self.judge(part).argmax(1)

        return self.cached(f"said-{name}", len(pixels), self.feature_batch_size, compute)


def subsample(data: Dataset, count: int) -> Dataset:
    """``count`` images at even distances, or all; a user's data sorted by class before.

    Of classes that take turns, every tenth image could be of one class.
    """
    if count >= len(data):
        return data
    rows = torch.arange(count) * len(data) // count
    if data.is_user_data and data.labels is not None:
        rows = data.labels.argsort(stable=True)[rows]
    return data.select(rows.tolist())


def evaluate(
    model: Model, context: EvalContext, other_models: Sequence[Model] = ()
) -> tuple[dict[str, Any], Pixels, NearestPairs]:
    """All metrics as plain values, the samples, and those most like a training image.

    Args:
        other_models: other score models, which get the same metrics on the same images.
    """
    pixels, training = cached_samples(model, context), context.train.images
    nearest = find_nearest_in_pixels(pixels, training, context.device)
    curve = [_curve_point(one, context) for one in (model, *other_models)]
    own = curve[0]
    evaluation = {
        "figures": {**own["figures"], **train_set_baseline(context)},
        "per_class": measure_per_class(model, context, pixels),
        "loss": own["loss"],
        "neighbours": measure_neighbors(model, context, pixels, nearest),
        "speed": measure_speed(model, context),
        "curve": sorted(curve, key=lambda point: point["images_seen"] or 0),
    }
    return evaluation, pixels, select_closest(pixels, training, nearest)


def _curve_point(model: Model, context: EvalContext) -> dict[str, Any]:
    """A point of the curve over images seen."""
    return {
        "name": model.card.name,
        "sha256": model.card.sha256,
        "images_seen": model.n_images_seen,
        "figures": measure_quality(model, context),
        "loss": measure_loss(model, context),
    }


def cached_samples(model: Model, context: EvalContext) -> Pixels:
    """The samples of a model, from the disk where they are."""
    return sampling.generate_samples(
        model.prior, context.folder, model.cache_key, context.n_images, context.sampler,
        context.nfe, context.seed, context.batch_size, context.progress,
    )  # fmt: skip


def measure_quality(model: Model, context: EvalContext) -> dict[str, MetricEntry]:
    """Distances, precision, recall, and the judge's accuracy on the samples."""
    pixels, key = cached_samples(model, context), model.cache_key
    metrics: dict[str, MetricEntry] = {}
    for extractor in context.extractors:
        real = context.cached_features(extractor, "test", context.test_subset.images)
        features = context.cached_features(extractor, key, pixels)
        metrics |= measure_sample_quality(features, real, extractor.name, SAMPLES)
    if classes := len(model.prior.classes):
        labels = sampling.cycle_labels(len(pixels), classes)
        hits = context.cached_predictions(key, pixels) == labels
        metrics["judge_accuracy"] = from_proportion(compute_proportion(hits, SAMPLES))
    return metrics


def train_set_baseline(context: EvalContext) -> dict[str, MetricEntry]:
    """What training images score in place of the samples, and the judge on test images."""
    metrics: dict[str, MetricEntry] = {}
    test = context.test_subset
    for extractor in context.extractors:
        real = context.cached_features(extractor, "test", test.images)
        training = subsample(context.train, context.n_images).images
        features = context.cached_features(extractor, "floor", training)
        quality = measure_sample_quality(features, real, extractor.name, "training images")
        metrics |= {f"{name}_floor": entry for name, entry in quality.items()}
    if test.labels is not None:
        hits = context.cached_predictions("test", test.images) == test.labels
        metrics["judge_accuracy_test"] = from_proportion(compute_proportion(hits, TEST_IMAGES))
    return metrics


def measure_per_class(
    model: Model, context: EvalContext, pixels: Pixels
) -> dict[str, dict[str, MetricEntry]]:
    """The judge's accuracy for each class, on samples and on test images."""
    names, test = model.prior.classes, context.test_subset
    if not names:
        return {}
    labels = sampling.cycle_labels(len(pixels), len(names))
    hits = {SAMPLES: (context.cached_predictions(model.cache_key, pixels) == labels, labels)}
    if test.labels is not None:
        correct = context.cached_predictions("test", test.images) == test.labels
        hits[TEST_IMAGES] = correct, test.labels
    return {
        name: {
            of: from_proportion(compute_proportion(hit, f"{of} of the class", shown == number))
            for of, (hit, shown) in hits.items()
        }
        for number, name in enumerate(names)
    }


def measure_loss(model: Model, context: EvalContext) -> dict[str, Any]:
    """The denoising loss at each level, on training and on test images."""
    losses: dict[str, Any] = {"levels": list(SIGMA_LEVELS)}
    count = min(context.n_images, MAX_IMAGES)
    for name, images in (("train", context.train), ("test", context.test_subset)):
        data = subsample(images, count)
        compute = partial(_batch_losses, model, context.batch_size, data)
        key = f"loss-{model.cache_key}-{name}"
        rows = context.cached(key, len(data), context.batch_size, compute)
        losses[name] = [estimate_mean(column, f"{name} images") for column in rows.T]
    return losses


def _batch_losses(model: Model, batch_size: int, data: Dataset, positions: range) -> Tensor:
    part = data[positions.start : positions.stop]
    labels = part.labels if model.prior.classes else None
    return measure_denoising_loss(
        model.prior, part.images, labels, [*part.image_ids], model.card.sigma_data, batch_size
    )


def measure_neighbors(
    model: Model, context: EvalContext, pixels: Pixels, neighbors: Nearest
) -> dict[str, Any]:
    """How near samples and test images come to a training image, in pixels and in features."""
    training, test = context.train.images, context.test_subset.images
    real = find_nearest_in_pixels(test, training, context.device)
    quantiles = {
        "pixels": {
            of: distance_quantiles(nearest, of, len(training))
            for of, nearest in ((SAMPLES, neighbors), (TEST_IMAGES, real))
        }
    }
    subset = subsample(context.train, TRAIN_PER_SAMPLE * context.n_images).images
    for extractor in context.extractors:
        among = context.cached_features(extractor, "train", subset)
        quantiles[extractor.name] = {
            of: distance_quantiles(
                find_nearest(context.cached_features(extractor, key, images), among), of, len(among)
            )
            for of, key, images in (
                (SAMPLES, model.cache_key, pixels), (TEST_IMAGES, "test", test)
            )
        }  # fmt: skip
    return quantiles


def measure_speed(model: Model, context: EvalContext) -> dict[str, Any]:
    """Seconds an image at 18, 35 and 64 calls: the median of the repeats, and their extremes."""

    def compute(_: range) -> Tensor:
        return sampling.measure_seconds(model.prior, context.batch_size)[None]

    rows = context.cached(f"speed-{model.cache_key}", sampling.REPEATS, 1, compute)
    seconds = {
        str(nfe): estimate_quantile(column, 0.5, "repeats") | _min_max(column)
        for nfe, column in zip(sampling.NFE_VALUES, rows.T, strict=True)
    }
    gpu = context.device.type == "cuda"
    return {
        "machine": torch.cuda.get_device_name(context.device) if gpu else cpu_name(),
        "threads": torch.get_num_threads(),
        "images_at_once": context.batch_size,
        "seconds": seconds,
    }


def _min_max(seconds: Tensor) -> MetricEntry:
    """In place of an interval: the repeats of one machine are no sample of others."""
    low, high = (float(f"{value:.7g}") for value in seconds.aminmax())
    return {"low": low, "high": high, "interval": "all repeats"}
