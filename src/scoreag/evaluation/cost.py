"""What an evaluation will cost: a batch of each kind of work is measured, and scaled up."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scoreag.core.types import Classifier
from scoreag.evaluation import sampling
from scoreag.evaluation.classifier import EvaluationSet
from scoreag.evaluation.score_model import (
    MAX_LOSS_IMAGES,
    TRAIN_PER_SAMPLE,
    EvalContext,
    Model,
    batch_losses,
)
from scoreag.metrics.feature_extractors import extract_features
from scoreag.training.outputs import measure_accuracy

WARM_SECONDS = 2.0  # work that takes less is done again, as the first time also loads kernels


def estimate_classifier(
    classifier: Classifier, parts: Mapping[str, EvaluationSet], batch_size: int
) -> tuple[int, float]:
    """Images and seconds of a classifier's evaluation, attacks included."""
    images, seconds = 0, 0.0
    for part in parts.values():
        data = part.data
        first = data.select([*range(min(len(data), batch_size))])
        assert first.labels is not None
        pixels, labels, attacks = first.images, first.labels, part.attacks

        run = partial(measure_accuracy, classifier, pixels, labels, "images", attacks, batch_size)
        images += len(data)
        seconds += _measure(run) * len(data) / len(pixels)
    return images, seconds


def estimate_score_model(
    model: Model, context: EvalContext, others: list[Model]
) -> tuple[int, float, int]:
    """Images to be sampled, seconds, and denoiser calls for them, over all compared models."""
    batches = math.ceil(context.n_images / context.batch_size)
    seconds, per_call = 0.0, 0.0
    for one in (model, *others):
        one_batch = _measure(partial(_sample_once, one, context))
        per_call = one_batch / context.nfe
        seconds += batches * one_batch + _seconds_of_losses(one, context)
    seconds += _seconds_of_features(context, 1 + len(others))
    seconds += sampling.REPEATS * sum(sampling.NFE_VALUES) * per_call
    images = context.n_images * (1 + len(others))
    return images, seconds, images * context.nfe


def _measure(work: Callable[[], Any]) -> float:
    """Seconds of some work."""
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        if seconds > WARM_SECONDS:
            break
    return seconds


def _sample_once(model: Model, context: EvalContext) -> None:
    with TemporaryDirectory() as folder:
        sampling.generate_samples(
            context.guided(model.prior), Path(folder), model.cache_key, context.batch_size,
            context.sampler, context.nfe, context.seed, context.batch_size, False,
        )  # fmt: skip


def _seconds_of_losses(model: Model, context: EvalContext) -> float:
    """Of the losses on training and on test images."""
    first = range(min(context.batch_size, len(context.test)))
    seconds = _measure(lambda: batch_losses(model, context.batch_size, context.test, first))
    counts = (len(context.train), len(context.test_subset))
    images = sum(min(count, context.n_images, MAX_LOSS_IMAGES) for count in counts)
    return seconds * math.ceil(images / context.batch_size)


def _seconds_of_features(context: EvalContext, models: int) -> float:
    """Of samples, of as many test and training images, and of training images for neighbors."""
    size = context.feature_batch_size
    part = context.test_subset.images[:size]
    more = min(len(context.train), TRAIN_PER_SAMPLE * context.n_images)
    images = (2 + models) * context.n_images + more
    each = sum(
        _measure(partial(extract_features, one, part, context.device, size))
        for one in context.extractors
    )
    return each * images / len(part)
