"""A score model's figures: how like real images its draws are, how varied, how far from copies."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.data.loading import Dataset
from scoreag.evaluation import sampling, throughput
from scoreag.evaluation.context import EvalContext, Model, subsample
from scoreag.evaluation.denoising_loss import MAX_IMAGES, SIGMA_LEVELS, measure_denoising_loss
from scoreag.evaluation.memorization import (
    NearestPairs,
    distance_quantiles,
    find_nearest_in_pixels,
    select_closest,
)
from scoreag.evaluation.sample_quality import measure_sample_quality
from scoreag.evaluation.storage import load_or_compute
from scoreag.io.manifest import cpu_name
from scoreag.metrics.feature_extractors import Pixels
from scoreag.metrics.nearest_neighbors import Nearest, find_nearest
from scoreag.stats.estimates import MetricEntry, estimate_mean, estimate_quantile, from_proportion
from scoreag.stats.proportion import compute_proportion

TRAIN_PER_SAMPLE = (
    10  # training images, for each draw, among which the nearest in features is looked for
)
SAMPLES, TEST_IMAGES = "draws", "test images"


def evaluate(
    model: Model, context: EvalContext, other_models: Sequence[Model] = ()
) -> tuple[dict[str, Any], Pixels, NearestPairs]:
    """All figures of ``model`` as plain values, its draws, and those most like a training image.

    Args:
        beside: other score models, which get the same figures on the same images.
    """
    pixels, among = cached_samples(model, context), context.train.images
    near = find_nearest_in_pixels(pixels, among, context.device)
    own = _core_metrics(model, context)
    found = {
        "figures": {**own["figures"], **train_set_baseline(context)},
        "per_class": measure_per_class(model, context, pixels),
        "loss": own["loss"],
        "neighbours": measure_neighbors(model, context, pixels, near),
        "speed": measure_speed(model, context),
        "curve": [
            _curve_point(model, own),
            *(_curve_point(m, _core_metrics(m, context)) for m in other_models),
        ],
    }
    found["curve"].sort(key=lambda point: point["images_seen"] or 0)
    return found, pixels, select_closest(pixels, among, near)


def _core_metrics(model: Model, context: EvalContext) -> dict[str, Any]:
    return {"figures": measure_quality(model, context), "loss": measure_loss(model, context)}


def _curve_point(model: Model, found: dict[str, Any]) -> dict[str, Any]:
    """A place on the curve over images seen."""
    return {
        "name": model.card.name, "sha256": model.card.sha256, "images_seen": model.n_images_seen
    } | found  # fmt: skip


def cached_samples(model: Model, context: EvalContext) -> Pixels:
    """The draws of a model, from the disk where they are."""
    return sampling.generate_samples(
        model.prior, context.folder, model.cache_key, context.n_images, context.sampler, context.nfe,
        context.seed, context.batch_size, context.progress,
    )  # fmt: skip


def measure_quality(model: Model, context: EvalContext) -> dict[str, MetricEntry]:
    """Distances, precision, recall, and what the judge says of the draws."""
    pixels = cached_samples(model, context)
    found: dict[str, MetricEntry] = {}
    for extract in context.extractors:
        real = context.cached_features(extract, "test", context.test_subset.images)
        found |= measure_sample_quality(
            context.cached_features(extract, model.cache_key, pixels), real, extract.name, SAMPLES
        )
    if classes := len(model.prior.classes):
        hits = context.cached_predictions(model.cache_key, pixels) == sampling.cycle_labels(
            len(pixels), classes
        )
        found["judge_accuracy"] = from_proportion(compute_proportion(hits, SAMPLES))
    return found


def train_set_baseline(context: EvalContext) -> dict[str, MetricEntry]:
    """What training images score in place of the draws, and the judge on test images."""
    found: dict[str, MetricEntry] = {}
    for extract in context.extractors:
        real = context.cached_features(extract, "test", context.test_subset.images)
        training = subsample(context.train, context.n_images).images
        rows = context.cached_features(extract, "floor", training)
        under = measure_sample_quality(rows, real, extract.name, "training images")
        found |= {f"{name}_floor": entry for name, entry in under.items()}
    if context.test_subset.labels is not None:
        hits = (
            context.cached_predictions("test", context.test_subset.images)
            == context.test_subset.labels
        )
        found["judge_accuracy_test"] = from_proportion(compute_proportion(hits, TEST_IMAGES))
    return found


def measure_per_class(
    model: Model, context: EvalContext, pixels: Pixels
) -> dict[str, dict[str, MetricEntry]]:
    """The judge's accuracy for each class, on draws and on test images."""
    names = model.prior.classes
    if not names:
        return {}
    test, labels = context.test_subset, sampling.cycle_labels(len(pixels), len(names))
    hits = {SAMPLES: (context.cached_predictions(model.cache_key, pixels) == labels, labels)}
    if test.labels is not None:
        hits[TEST_IMAGES] = (
            context.cached_predictions("test", test.images) == test.labels,
            test.labels,
        )
    return {
        name: {
            of: from_proportion(compute_proportion(hit, f"{of} of the class", shown == number))
            for of, (hit, shown) in hits.items()
        }
        for number, name in enumerate(names)
    }


def measure_loss(model: Model, context: EvalContext) -> dict[str, Any]:
    """The denoising loss at each level, on training and on test images."""
    found: dict[str, Any] = {"levels": list(SIGMA_LEVELS)}
    count = min(context.n_images, MAX_IMAGES)
    for name, whole in (("train", context.train), ("test", context.test_subset)):
        data = subsample(whole, count)
        rows = load_or_compute(
            context.folder, f"loss-{model.cache_key}-{name}", len(data), context.batch_size,
            partial(_batch_losses, model, context, data), context.progress,
        )  # fmt: skip
        found[name] = [estimate_mean(column, f"{name} images") for column in rows.T]
    return found


def _batch_losses(model: Model, context: EvalContext, data: Dataset, piece: range) -> torch.Tensor:
    part = data[piece.start : piece.stop]
    labels = part.labels if model.prior.classes else None
    sd = model.card.sigma_data
    return measure_denoising_loss(
        model.prior, part.images, labels, [*part.image_ids], sd, context.batch_size
    )


def measure_neighbors(
    model: Model, context: EvalContext, pixels: Pixels, neighbors: Nearest
) -> dict[str, Any]:
    """How near draws and test images come to a training image, in pixels and in features."""
    among = context.train.images
    real = find_nearest_in_pixels(context.test_subset.images, among, context.device)
    found = {
        "pixels": {
            of: distance_quantiles(one, of, len(among))
            for of, one in ((SAMPLES, neighbors), (TEST_IMAGES, real))
        }
    }
    searched = subsample(context.train, TRAIN_PER_SAMPLE * context.n_images).images
    for extract in context.extractors:
        given = context.cached_features(extract, "train", searched)
        sets = {
            SAMPLES: (model.cache_key, pixels),
            TEST_IMAGES: ("test", context.test_subset.images),
        }
        found[extract.name] = {
            of: distance_quantiles(
                find_nearest(context.cached_features(extract, *kind), given), of, len(given)
            )
            for of, kind in sets.items()
        }
    return found


def _min_max(seconds: Tensor) -> MetricEntry:
    """In place of an interval: the repeats of one machine are no sample of others."""
    ends = {
        name: float(f"{x:.7g}") for name, x in zip(("low", "high"), seconds.aminmax(), strict=True)
    }
    return ends | {"interval": "all repeats"}


def measure_speed(model: Model, context: EvalContext) -> dict[str, Any]:
    """Seconds an image at 18, 35 and 64 calls: the median of the repeats, and their extremes."""
    rows = load_or_compute(
        context.folder, f"speed-{model.cache_key}", throughput.REPEATS, 1,
        lambda piece: throughput.measure_seconds(model.prior, context.batch_size)[None], context.progress,
    )  # fmt: skip
    entries = {
        str(calls): estimate_quantile(column, 0.5, "repeats") | _min_max(column)
        for calls, column in zip(throughput.NFE_VALUES, rows.T, strict=True)
    }
    gpu = context.device.type == "cuda"
    machine = torch.cuda.get_device_name(context.device) if gpu else cpu_name()
    return {
        "machine": machine,
        "threads": torch.get_num_threads(),
        "images_at_once": context.batch_size,
        "seconds": entries,
    }
