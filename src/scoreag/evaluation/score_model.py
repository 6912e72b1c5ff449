"""The metrics of a score model: sample quality, memorization, denoising loss and speed.

Sample quality compares samples with test images in the features of a network.  The baseline is the
value of as many training images: no score model is expected to be better.  A model that copies
comes closer to its training images than test images do, and its denoising loss falls on training
images only (Karras et al. 2022, table 1).  All score models are compared on the same images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.rng import Noise, Stream
from scoreag.core.types import Labels
from scoreag.data.loading import Dataset
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.evaluation import sampling
from scoreag.evaluation.storage import SAMPLES_DIR, load_or_compute
from scoreag.io.images import make_grid, to_float, write_png
from scoreag.io.manifest import cpu_name
from scoreag.methods.config import SamplingConfig, resolve_task_config
from scoreag.methods.guided_sampling import attach_guide, configure_prior
from scoreag.metrics.feature_distances import (
    K_NEIGHBORS,
    Nearest,
    fid_with_jackknife,
    find_nearest,
    kid_with_std_error,
    precision,
    recall,
)
from scoreag.metrics.feature_extractors import FeatureExtractor, Features, Pixels, extract_features
from scoreag.models.identity import score_model_digest
from scoreag.models.model_cards import Card
from scoreag.stats.estimates import (
    MetricEntry,
    estimate_mean,
    estimate_quantile,
    from_estimate,
    from_proportion,
)
from scoreag.stats.proportion import compute_proportion
from scoreag.training.losses import edm

SAMPLES, TEST_IMAGES = "samples", "test images"
JACKKNIFE_METHOD = "jackknife, 20 blocks left out in turn"
BLOCK_METHOD = "20 disjoint blocks"
QUANTILES = {"median": 0.5, "lowest_5_percent": 0.05}  # of the distances to training images
SIGMA_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # units of the state
MAX_LOSS_IMAGES = 1000  # images of a set, for the denoising loss
TRAIN_PER_SAMPLE = 10  # training images per sample, for distances between features
GRID_COLUMNS, MAX_PER_CLASS = 10, 100


@dataclass(frozen=True, eq=False)
class Model:
    """A score model with its card."""

    card: Card
    prior: Prior

    @cached_property
    def cache_key(self) -> str:
        """Of the files of what it computes."""
        return score_model_digest(self.prior)[:12]

    @property
    def n_images_seen(self) -> int | None:
        return self.card.training_config.get("images_seen")


@dataclass(frozen=True)
class NearestPairs:
    """Samples beside the training image that each is nearest to, the closest first."""

    generated: Pixels
    training: Pixels
    distance: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class EvalContext:
    """The images, networks and settings that all score models share, and the folder of results."""

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
    guidance: Mapping[str, Any] = field(default_factory=dict)
    guidance_record: Mapping[str, Any] = field(default_factory=dict)

    def guided(self, prior: Prior) -> Prior:
        """The prior with the guidance by which samples are made."""
        if not self.guidance:
            return prior
        config = self.guidance_config(prior)
        return configure_prior(attach_guide(prior, config), config)

    def guidance_config(self, prior: Prior) -> SamplingConfig:
        """What ``guidance`` means; the card's guidance is of its tasks, and plays no part."""
        return resolve_task_config(prior, "synthesize", **{"guidance_scale": 1.0, **self.guidance})

    @cached_property
    def test_subset(self) -> Dataset:
        """As many test images as samples, or all."""
        return subsample(self.test, self.n_images)

    def cached(
        self, name: str, count: int, chunk_size: int, compute: Callable[[range], Tensor]
    ) -> Tensor:
        return load_or_compute(self.folder, name, count, chunk_size, compute, self.progress)

    def cached_features(self, extractor: FeatureExtractor, name: str, pixels: Pixels) -> Features:
        """The features of some images, cached as ``name``."""
        size = self.feature_batch_size

        def compute(positions: range) -> Features:
            part = pixels[positions.start : positions.stop]
            return extract_features(extractor, part, self.device, size)

        name = f"features-{extractor.name}-{extractor.sha256[:12]}-{name}"
        return self.cached(name, len(pixels), size, compute)

    def judge_hits(self, name: str, pixels: Pixels, labels: Labels) -> Bool[Tensor, " count"]:
        """Whether the reference classifier predicts the labels; predictions cached as ``name``."""

        @torch.no_grad()
        def compute(positions: range) -> Labels:
            part = to_float(pixels[positions.start : positions.stop].to(self.device))
            return self.judge(part).argmax(1)

        size = self.feature_batch_size
        return self.cached(f"said-{name}", len(pixels), size, compute) == labels


def subsample(data: Dataset, count: int) -> Dataset:
    """``count`` evenly spaced images, or all; user data is sorted by class before.

    Where the classes take turns, every tenth image could be of one class.
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
        other_models: further score models, for the curve of metrics over images seen.
    """
    pixels, training = cached_samples(model, context), context.train.images
    nearest = find_nearest_in_pixels(pixels, training, context.device)
    curve = [_curve_point(one, context) for one in (model, *other_models)]
    own = curve[0]
    evaluation = {
        "metrics": {**own["metrics"], **train_set_baseline(context)},
        "per_class": measure_per_class(model, context, pixels),
        "loss": own["loss"],
        "neighbors": measure_neighbors(model, context, pixels, nearest),
        "speed": measure_speed(model, context),
        "curve": sorted(curve, key=lambda point: point["images_seen"] or 0),
    }
    return evaluation, pixels, select_closest(pixels, training, nearest)


def _curve_point(model: Model, context: EvalContext) -> dict[str, Any]:
    return {
        "name": model.card.name,
        "sha256": model.card.sha256,
        "images_seen": model.n_images_seen,
        "metrics": measure_quality(model, context),
        "loss": measure_loss(model, context),
    }


def cached_samples(model: Model, context: EvalContext) -> Pixels:
    """The samples of a model, read from the folder where they are."""
    return sampling.generate_samples(
        context.guided(model.prior), context.folder, model.cache_key, context.n_images,
        context.sampler, context.nfe, context.seed, context.batch_size, context.progress,
    )  # fmt: skip


def write_sample_grids(
    folder: Path, pixels: Pixels, classes: Sequence[str], pairs: NearestPairs
) -> None:
    """Write samples/class-000.png, ... and samples/nearest.png: pairs of nearest images."""
    (folder / SAMPLES_DIR).mkdir(exist_ok=True)
    for number in range(max(1, min(len(classes), len(pixels)))):
        images = sampling.select_class(pixels, number, len(classes))[:MAX_PER_CLASS]
        file = folder / SAMPLES_DIR / f"class-{number:03d}.png"
        write_png(file, make_grid(images, GRID_COLUMNS))
    nearest = torch.stack([pairs.generated, pairs.training], 1).flatten(0, 1)
    write_png(folder / SAMPLES_DIR / "nearest.png", make_grid(nearest, 2))


def measure_quality(model: Model, context: EvalContext) -> dict[str, MetricEntry]:
    """Distances, precision, recall, and the accuracy of the reference classifier on samples."""
    pixels, key = cached_samples(model, context), model.cache_key
    metrics = _feature_quality(context, key, pixels, SAMPLES)
    if classes := len(model.prior.classes):
        hits = context.judge_hits(key, pixels, sampling.cycle_labels(len(pixels), classes))
        metrics["judge_accuracy"] = from_proportion(compute_proportion(hits, SAMPLES))
    return metrics


def train_set_baseline(context: EvalContext) -> dict[str, MetricEntry]:
    """The quality of training images in place of samples, and the accuracy on test images."""
    test, training = context.test_subset, subsample(context.train, context.n_images).images
    quality = _feature_quality(context, "floor", training, "training images")
    metrics = {f"{name}_floor": entry for name, entry in quality.items()}
    if test.labels is not None:
        hits = context.judge_hits("test", test.images, test.labels)
        metrics["judge_accuracy_test"] = from_proportion(compute_proportion(hits, TEST_IMAGES))
    return metrics


def _feature_quality(
    context: EvalContext, name: str, pixels: Pixels, population: str
) -> dict[str, MetricEntry]:
    """The quality of some images, cached as ``name``, in the features of each network."""
    metrics: dict[str, MetricEntry] = {}
    for extractor in context.extractors:
        real = context.cached_features(extractor, "test", context.test_subset.images)
        features = context.cached_features(extractor, name, pixels)
        metrics |= measure_sample_quality(features, real, extractor.name, population)
    return metrics


def measure_sample_quality(
    generated: Features, real: Features, extractor_name: str, population: str
) -> dict[str, MetricEntry]:
    """Fréchet and kernel distance, precision and recall, each under ``METRIC_extractor``.

    They depend on the number of images: compare sets of equal size.
    """
    generated, real = _shuffle(generated), _shuffle(real)
    total = len(generated)
    pair = f"{population}, against {len(real)} test images"
    fid = fid_with_jackknife(generated, real, extractor_name)
    kernel = kid_with_std_error(generated, real)
    metrics = {
        f"frechet_{extractor_name}": from_estimate(fid, pair, total, JACKKNIFE_METHOD),
        f"kernel_{extractor_name}": from_estimate(kernel, pair, total, BLOCK_METHOD),
    }
    if min(total, len(real)) > K_NEIGHBORS:
        among = f"test images, within the reach of {total} {population}"
        for name, hits, of in (
            ("precision", precision(generated, real), pair),
            ("recall", recall(generated, real), among),
        ):
            metrics[f"{name}_{extractor_name}"] = from_proportion(compute_proportion(hits, of))
    return metrics


def _shuffle(rows: Features) -> Features:
    """In a fixed random order, so that a block of rows is no class."""
    return rows[Stream("blocks", len(rows)).permutation(len(rows))]


def measure_per_class(
    model: Model, context: EvalContext, pixels: Pixels
) -> dict[str, dict[str, MetricEntry]]:
    """The accuracy of the reference classifier for each class, on samples and on test images."""
    names, test = model.prior.classes, context.test_subset
    if not names:
        return {}
    labels = sampling.cycle_labels(len(pixels), len(names))
    hits = {SAMPLES: (context.judge_hits(model.cache_key, pixels, labels), labels)}
    if test.labels is not None:
        hits[TEST_IMAGES] = context.judge_hits("test", test.images, test.labels), test.labels
    return {
        name: {
            of: from_proportion(compute_proportion(hit, f"{of} of the class", classes == number))
            for of, (hit, classes) in hits.items()
        }
        for number, name in enumerate(names)
    }


def measure_loss(model: Model, context: EvalContext) -> dict[str, Any]:
    """The denoising loss at each level, on training and on test images."""
    losses: dict[str, Any] = {"levels": list(SIGMA_LEVELS)}
    count = min(context.n_images, MAX_LOSS_IMAGES)
    for name, images in (("train", context.train), ("test", context.test_subset)):
        data = subsample(images, count)
        compute = partial(batch_losses, model, context.batch_size, data)
        key = f"loss-{model.cache_key}-{name}"
        rows = context.cached(key, len(data), context.batch_size, compute)
        losses[name] = [estimate_mean(column, f"{name} images") for column in rows.T]
    return losses


def batch_losses(model: Model, batch_size: int, data: Dataset, positions: range) -> Tensor:
    part = data[positions.start : positions.stop]
    labels = part.labels if model.prior.classes else None
    return measure_denoising_loss(
        model.prior, part.images, labels, [*part.image_ids], model.card.sigma_data, batch_size
    )


@torch.no_grad()
def measure_denoising_loss(
    prior: Prior,
    pixels: Pixels,
    labels: Labels | None,
    image_ids: list[int],
    sigma_data: float,
    pad_to: int = 0,
) -> Float[Tensor, "count levels"]:
    """``w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` per pixel, of each image at each level.

    ``w = (sigma^2 + sd^2) / (sigma sd)^2``, EDM's, for all parameterizations.  The noise n is keyed
    by the image and by the level.

    Args:
        pad_to: pad the batch to this size by its last image.
    """
    count, device = len(pixels), prior.sigmas.device
    padded = [*range(count), *[count - 1] * (pad_to - count)]
    x0 = to_model_range(to_float(pixels[padded].to(device)))
    y = None if labels is None else labels[padded].to(device)
    source = Noise(0, [image_ids[i] for i in padded]).fold_in("loss")
    weight, losses = edm(sigma_data).weight, []
    for i, level in enumerate(SIGMA_LEVELS):
        sigma = torch.tensor(level, device=device)
        error = prior.model(x0 + sigma * source.fold_in(i).normal_like(x0), sigma, y) - x0
        losses.append(weight(sigma[None]) * error.square().flatten(1).mean(1)[:count])
    return torch.stack(losses, 1).cpu()


def measure_neighbors(
    model: Model, context: EvalContext, pixels: Pixels, nearest: Nearest
) -> dict[str, Any]:
    """The distances of samples and test images to the training images, in pixels and features."""
    training, test = context.train.images, context.test_subset.images
    test_nearest = find_nearest_in_pixels(test, training, context.device)
    quantiles = {
        "pixels": {
            SAMPLES: distance_quantiles(nearest, SAMPLES, len(training)),
            TEST_IMAGES: distance_quantiles(test_nearest, TEST_IMAGES, len(training)),
        }
    }
    subset = subsample(context.train, TRAIN_PER_SAMPLE * context.n_images).images
    for extractor in context.extractors:
        among = context.cached_features(extractor, "train", subset)
        quantiles[extractor.name] = {}
        for of, key, images in (
            (SAMPLES, model.cache_key, pixels), (TEST_IMAGES, "test", test)
        ):  # fmt: skip
            found = find_nearest(context.cached_features(extractor, key, images), among)
            quantiles[extractor.name][of] = distance_quantiles(found, of, len(among))
    return quantiles


def find_nearest_in_pixels(images: Pixels, training: Pixels, device: Any) -> Nearest:
    """The nearest training image to each image; Euclidean, pixels in [0, 1]."""
    nearest = find_nearest(images.to(device), training.to(device))
    return Nearest(nearest.distance.cpu() / 255, nearest.indices.cpu())


def distance_quantiles(
    nearest: Nearest, population: str, n_training: int
) -> dict[str, MetricEntry]:
    """The median and the 5 % quantile of the distances."""
    population = f"{population}, each to the nearest of {n_training} training images"
    return {
        name: estimate_quantile(nearest.distance, q, population) for name, q in QUANTILES.items()
    }


def select_closest(
    images: Pixels, training: Pixels, nearest: Nearest, count: int = 8
) -> NearestPairs:
    """The ``count`` images that come closest to a training image."""
    order = nearest.distance.argsort(stable=True)[:count]
    distance = tuple(nearest.distance[order].tolist())
    return NearestPairs(images[order], training[nearest.indices[order]], distance)


def measure_speed(model: Model, context: EvalContext) -> dict[str, Any]:
    """Seconds per image by denoiser calls: the median of the repeats, and their extremes."""

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
    """In place of an interval: repeats on one machine are no sample of others."""
    low, high = (float(f"{value:.7g}") for value in seconds.aminmax())
    return {"low": low, "high": high, "interval": "all repeats"}
