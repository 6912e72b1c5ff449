"""The public functions: check what was given, compute it in micro-batches, measure the outcome."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.classifiers.checks import has_zero_gradient
from scoreag.classifiers.judges import validate_judge
from scoreag.core import gradient
from scoreag.core.types import Classifier, Images
from scoreag.diffusion.prior import Prior
from scoreag.io.images import check_images
from scoreag.methods.config import resolve_task_config
from scoreag.methods.result import Result
from scoreag.methods.sampling import RUNNER_UP
from scoreag.methods.task import TaskSpec, batch_ranges, run_batch
from scoreag.methods.validation import (
    Target,
    default_image_ids,
    validate_class_count,
    validate_classifier,
    validate_flag,
    validate_image_ids,
    validate_labels,
    validate_prior,
    validate_seed,
    validate_target,
)
from scoreag.registry import describe_value

DEFAULT_BATCH_SIZE = 16  # images that the networks see at once
MAX_BATCH_SIZE = 4096  # micro-batch: short ones are padded to it, in memory


def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    target: Target = RUNNER_UP,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """GAS: images of the classes ``labels`` that ``classifier`` takes for something else.

    Args:
        labels: what each image shall show.
        wrong: what the classifier shall say: a class an image, one class, "second" (the likeliest
            other class at the first x0-estimate below sigma = 2), "random", or None: anything
            else.
        image_ids: what the noise is keyed by; by default label * 1,000,000 + the how-manieth of
            its class, so that an image does not depend on which others are asked for.
        judge: another classifier of the same classes, trained apart, who is asked in the end
            whether the images still show their class; without one nobody knows.
        settings: fields of ``Settings``; what is not given comes from the prior's card.
    """
    job = build_synthesis(prior, classifier, labels, target, seed, image_ids, judge, **settings)
    _warn_of_gradient(job)
    return run_in_memory(job, batch_size, progress)


def transform(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    target: Target = RUNNER_UP,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """GAT: ``images``, changed until ``classifier`` takes them for something else.

    Args:
        wrong: as in ``synthesize``; "second" is the likeliest other class of the given image.
        judge: as in ``synthesize``.
    """
    job = build_transformation(
        prior, classifier, images, labels, target, seed, image_ids, judge, **settings
    )
    _warn_of_gradient(job)
    return run_in_memory(job, batch_size, progress)


def purify(
    prior: Prior,
    images: Tensor,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    **settings: Any,
) -> Images:
    """GAP: the natural images that ``images`` were made from."""
    job = build_purification(prior, images, seed=seed, image_ids=image_ids, **settings)
    return run_in_memory(job, batch_size, progress).images


def build_synthesis(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    target: Target = RUNNER_UP,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **settings: Any,
) -> TaskSpec:
    """A checked job of ``synthesize``."""
    place = validate_prior(prior).sigmas.device
    if not prior.classes:
        raise ValueError(
            "this score model knows no classes, so it cannot be asked for one; "
            "use a class-conditional model, or transform given images"
        )
    chosen = resolve_task_config(prior, "synthesize", **settings)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype, device=place)
    victim, count = validate_classifier(classifier, blank)
    labels = validate_labels(labels, None, validate_class_count(prior, count)).to(place)
    ids, seed = validate_image_ids(image_ids, default_image_ids(labels)), validate_seed(seed)
    return TaskSpec(
        task="synthesize",
        prior=prior,
        config=chosen,
        seed=seed,
        image_ids=ids,
        classifier=victim,
        labels=labels,
        target=validate_target(target, labels, count, seed, ids),
        judge=validate_judge(judge, victim, blank, count),
    )


def build_transformation(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    target: Target = RUNNER_UP,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **settings: Any,
) -> TaskSpec:
    """A checked job of ``transform``."""
    chosen = resolve_task_config(validate_prior(prior), "transform", **settings)
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = validate_classifier(classifier, images[:1])
    labels = validate_labels(labels, len(images), validate_class_count(prior, count))
    labels = labels.to(images.device)
    ids, seed = validate_image_ids(image_ids, range(len(images))), validate_seed(seed)
    return TaskSpec(
        task="transform",
        prior=prior.to(images.dtype),
        config=chosen,
        seed=seed,
        image_ids=ids,
        classifier=victim,
        images=images,
        labels=labels,
        target=validate_target(target, labels, count, seed, ids),
        judge=validate_judge(judge, victim, images[:1], count),
    )


def build_purification(
    prior: Prior,
    images: Tensor,
    classifier: Classifier | None = None,
    labels: Tensor | Sequence[Any] | None = None,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    **settings: Any,
) -> TaskSpec:
    """A checked job of ``purify``; with a classifier, what it says before and after is measured."""
    chosen = resolve_task_config(validate_prior(prior), "purify", **settings)
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = None, 2**31
    if classifier is not None:
        victim, count = validate_classifier(classifier, images[:1], require_grad=False)
    known = None
    if labels is not None:
        known = validate_labels(labels, len(images), count).to(images.device)
    return TaskSpec(
        task="purify",
        prior=prior.to(images.dtype),
        config=chosen,
        seed=validate_seed(seed),
        image_ids=validate_image_ids(image_ids, range(len(images))),
        classifier=victim,
        images=images,
        labels=known,
    )


def run_in_memory(
    job: TaskSpec, batch_size: int = DEFAULT_BATCH_SIZE, progress: bool = True
) -> Result:
    """All of a job, in this process and in memory; 0 as micro-batch takes all images at once."""
    if not isinstance(batch_size, int) or batch_size < 0:
        came = describe_value(batch_size)
        raise ValueError(f"batch_size is {came}; expected 1 or more, or 0 for all at once")
    if batch_size > MAX_BATCH_SIZE:
        raise ValueError(
            f"batch_size is {batch_size}, and short ones are padded to it; expected at most "
            f"{MAX_BATCH_SIZE}, or 0 for all at once, unpadded"
        )
    cut = list(batch_ranges(len(job), batch_size or len(job)))
    off = None if validate_flag("progress", progress) else True
    bar = tqdm(total=len(job), unit="image", desc=job.task, disable=off, delay=2)
    parts = []
    with bar:
        for piece in cut:
            parts.append(run_batch(job.select(piece), pad_to=batch_size))
            bar.update(len(piece))
    return Result.cat(parts)


def find_gradient_problem(job: TaskSpec) -> str:
    """What makes a job useless before it has begun: a classifier without a gradient to follow."""
    if job.classifier is None or job.task == "purify" or not job.config.attack_scale:
        return ""
    like = torch.empty(0, dtype=job.prior.dtype, device=job.prior.sigmas.device)
    zero = has_zero_gradient(job.classifier, job.prior.image_shape, like)
    return f"the classifier {gradient.ZERO_GRADIENT}" if zero else ""


def _warn_of_gradient(job: TaskSpec) -> None:
    if told := find_gradient_problem(job):
        warnings.warn(told, stacklevel=3)
