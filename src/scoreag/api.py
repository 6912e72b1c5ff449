"""The public functions: check what was given, compute it in micro-batches, measure the outcome."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.asked import (
    Wrong,
    agree,
    checked_flag,
    checked_ids,
    checked_labels,
    checked_prior,
    checked_seed,
    checked_victim,
    checked_wrong,
    ids_by_class,
)
from scoreag.classifier_checks import gradient_is_zero
from scoreag.core import gradient
from scoreag.core.prior import Prior
from scoreag.core.types import Classifier, Images
from scoreag.images import check_images
from scoreag.jobs import Job, compute, pieces
from scoreag.judges import checked_judge
from scoreag.load import described
from scoreag.result import Result
from scoreag.settings import settings_for
from scoreag.tasks import SECOND

MICRO_BATCH = 16  # images that the networks see at once
LARGEST = 4096  # micro-batch: short ones are padded to it, in memory


def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    wrong: Wrong = SECOND,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    micro_batch: int = MICRO_BATCH,
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
    job = synthesis(prior, classifier, labels, wrong, seed, image_ids, judge, **settings)
    _warn(job)
    return run(job, micro_batch, progress)


def transform(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    wrong: Wrong = SECOND,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    micro_batch: int = MICRO_BATCH,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """GAT: ``images``, changed until ``classifier`` takes them for something else.

    Args:
        wrong: as in ``synthesize``; "second" is the likeliest other class of the given image.
        judge: as in ``synthesize``.
    """
    job = transformation(
        prior, classifier, images, labels, wrong, seed, image_ids, judge, **settings
    )
    _warn(job)
    return run(job, micro_batch, progress)


def purify(
    prior: Prior,
    images: Tensor,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    micro_batch: int = MICRO_BATCH,
    progress: bool = True,
    **settings: Any,
) -> Images:
    """GAP: the natural images that ``images`` were made from."""
    job = purification(prior, images, seed=seed, image_ids=image_ids, **settings)
    return run(job, micro_batch, progress).images


def synthesis(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    wrong: Wrong = SECOND,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``synthesize``."""
    place = checked_prior(prior).sigmas.device
    if not prior.classes:
        raise ValueError(
            "this score model knows no classes, so it cannot be asked for one; "
            "use a class-conditional model, or transform given images"
        )
    chosen = settings_for(prior, "synthesize", **settings)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype, device=place)
    victim, count = checked_victim(classifier, blank)
    labels = checked_labels(labels, None, agree(prior, count)).to(place)
    ids, seed = checked_ids(image_ids, ids_by_class(labels)), checked_seed(seed)
    return Job(
        task="synthesize",
        prior=prior,
        settings=chosen,
        seed=seed,
        image_ids=ids,
        classifier=victim,
        labels=labels,
        wrong=checked_wrong(wrong, labels, count, seed, ids),
        judge=checked_judge(judge, victim, blank, count),
    )


def transformation(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    wrong: Wrong = SECOND,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``transform``."""
    chosen = settings_for(checked_prior(prior), "transform", **settings)
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = checked_victim(classifier, images[:1])
    labels = checked_labels(labels, len(images), agree(prior, count))
    labels = labels.to(images.device)
    ids, seed = checked_ids(image_ids, range(len(images))), checked_seed(seed)
    return Job(
        task="transform",
        prior=prior.to(images.dtype),
        settings=chosen,
        seed=seed,
        image_ids=ids,
        classifier=victim,
        images=images,
        labels=labels,
        wrong=checked_wrong(wrong, labels, count, seed, ids),
        judge=checked_judge(judge, victim, images[:1], count),
    )


def purification(
    prior: Prior,
    images: Tensor,
    classifier: Classifier | None = None,
    labels: Tensor | Sequence[Any] | None = None,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``purify``; with a classifier, what it says before and after is measured."""
    chosen = settings_for(checked_prior(prior), "purify", **settings)
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = None, 2**31
    if classifier is not None:
        victim, count = checked_victim(classifier, images[:1], guides=False)
    known = None
    if labels is not None:
        known = checked_labels(labels, len(images), count).to(images.device)
    return Job(
        task="purify",
        prior=prior.to(images.dtype),
        settings=chosen,
        seed=checked_seed(seed),
        image_ids=checked_ids(image_ids, range(len(images))),
        classifier=victim,
        images=images,
        labels=known,
    )


def run(job: Job, micro_batch: int = MICRO_BATCH, progress: bool = True) -> Result:
    """All of a job, in this process and in memory; 0 as micro-batch takes all images at once."""
    if not isinstance(micro_batch, int) or micro_batch < 0:
        came = described(micro_batch)
        raise ValueError(f"micro_batch is {came}; expected 1 or more, or 0 for all at once")
    if micro_batch > LARGEST:
        raise ValueError(
            f"micro_batch is {micro_batch}, and short ones are padded to it; expected at most "
            f"{LARGEST}, or 0 for all at once, unpadded"
        )
    cut = list(pieces(len(job), micro_batch or len(job)))
    off = None if checked_flag("progress", progress) else True
    bar = tqdm(total=len(job), unit="image", desc=job.task, disable=off, delay=2)
    parts = []
    with bar:
        for piece in cut:
            parts.append(compute(job.rows(piece), pad_to=micro_batch))
            bar.update(len(piece))
    return Result.cat(parts)


def doubts(job: Job) -> str:
    """What makes a job useless before it has begun: a classifier without a gradient to follow."""
    if job.classifier is None or job.task == "purify" or not job.settings.strength:
        return ""
    like = torch.empty(0, dtype=job.prior.dtype, device=job.prior.sigmas.device)
    zero = gradient_is_zero(job.classifier, job.prior.image_shape, like)
    return f"the classifier {gradient.ZERO}" if zero else ""


def _warn(job: Job) -> None:
    if told := doubts(job):
        warnings.warn(told, stacklevel=3)
