"""The public functions: check what was given, compute it in micro-batches, measure the outcome."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.core.frozen import Frozen
from scoreag.core.noise import generator
from scoreag.core.prior import Prior
from scoreag.core.types import Classifier, Images, Labels
from scoreag.images import check_images
from scoreag.jobs import CLASS_STRIDE, Job, compute, pieces
from scoreag.models import check_classifier
from scoreag.models import classifier as as_classifier
from scoreag.result import Result
from scoreag.settings import settings_for
from scoreag.tasks import SECOND

Wrong: TypeAlias = Tensor | Sequence[Any] | int | str | None

MICRO_BATCH = 16  # images that the networks see at once


def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    wrong: Wrong = SECOND,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
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
        settings: fields of ``Settings``; what is not given comes from the prior's card.
    """
    job = synthesis(prior, classifier, labels, wrong, seed, image_ids, **settings)
    return run(job, micro_batch, progress)


def transform(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any],
    wrong: Wrong = SECOND,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    micro_batch: int = MICRO_BATCH,
    progress: bool = True,
    **settings: Any,
) -> Result:
    """GAT: ``images``, changed until ``classifier`` takes them for something else.

    Args:
        wrong: as in ``synthesize``; "second" is the likeliest other class of the given image.
    """
    job = transformation(prior, classifier, images, labels, wrong, seed, image_ids, **settings)
    return run(job, micro_batch, progress)


def purify(
    prior: Prior,
    images: Tensor,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
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
    image_ids: Sequence[int] | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``synthesize``."""
    if not prior.classes:
        raise ValueError(
            "this score model knows no classes, so it cannot be asked for one; "
            "use a class-conditional model, or transform given images"
        )
    labels = _labels(labels, None, len(prior.classes))
    ids = tuple(image_ids) if image_ids is not None else _ids_by_class(labels)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
    victim, count = _victim(classifier, blank.to(prior.sigmas.device))
    _labels(labels, None, count)
    return Job(
        task="synthesize",
        prior=prior,
        settings=settings_for(prior, "synthesize", **settings),
        seed=seed,
        image_ids=_ids(ids, len(labels)),
        classifier=victim,
        labels=labels.to(prior.sigmas.device),
        wrong=_wrong(wrong, labels, count, seed, ids),
    )


def transformation(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any],
    wrong: Wrong = SECOND,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``transform``."""
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = _victim(classifier, images[:1])
    labels = _labels(labels, len(images), min(count, len(prior.classes) or count))
    ids = tuple(image_ids) if image_ids is not None else tuple(range(len(images)))
    return Job(
        task="transform",
        prior=prior.to(images.dtype),
        settings=settings_for(prior, "transform", **settings),
        seed=seed,
        image_ids=_ids(ids, len(images)),
        classifier=victim,
        images=images,
        labels=labels.to(images.device),
        wrong=_wrong(wrong, labels, count, seed, ids),
    )


def purification(
    prior: Prior,
    images: Tensor,
    classifier: Classifier | None = None,
    labels: Tensor | Sequence[Any] | None = None,
    seed: int = 0,
    image_ids: Sequence[int] | None = None,
    **settings: Any,
) -> Job:
    """A checked job of ``purify``; with a classifier, what it says before and after is measured."""
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    victim, count = _victim(classifier, images[:1]) if classifier is not None else (None, 2**31)
    known = None if labels is None else _labels(labels, len(images), count).to(images.device)
    ids = tuple(image_ids) if image_ids is not None else tuple(range(len(images)))
    return Job(
        task="purify",
        prior=prior.to(images.dtype),
        settings=settings_for(prior, "purify", **settings),
        seed=seed,
        image_ids=_ids(ids, len(images)),
        classifier=victim,
        images=images,
        labels=known,
    )


def run(job: Job, micro_batch: int = MICRO_BATCH, progress: bool = True) -> Result:
    """All of a job, in this process and in memory; 0 as micro-batch takes all images at once."""
    cut = list(pieces(len(job), micro_batch or len(job)))
    bar = tqdm(total=len(job), unit="image", desc=job.task, disable=None if progress else True)
    parts = []
    with bar:
        for piece in cut:
            parts.append(compute(job.rows(piece), pad_to=micro_batch))
            bar.update(len(piece))
    return Result.cat(parts)


def _victim(classifier: Classifier, images: Images) -> tuple[Classifier, int]:
    if isinstance(classifier, torch.nn.Module) and not isinstance(classifier, Frozen):
        classifier = as_classifier(classifier)
    return classifier, check_classifier(classifier, images)


def _labels(labels: Tensor | Sequence[Any] | int, count: int | None, classes: int) -> Labels:
    """Int64 labels within 0..classes-1, one an image."""
    found = torch.as_tensor(labels).reshape(-1)
    if not len(found):
        raise ValueError("no images: there are no labels")
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"labels are {found.dtype}; expected whole numbers 0..{classes - 1}")
    if count is not None and len(found) != count:
        raise ValueError(f"{len(found)} labels for {count} images; expected one an image")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= classes:
        raise ValueError(f"labels from {low} to {high}; expected 0..{classes - 1}")
    return found.long()


def _wrong(
    wrong: Wrong, labels: Labels, classes: int, seed: int, ids: Sequence[int]
) -> Labels | str | None:
    """One class an image, or "second", or None; never the label itself."""
    if wrong is None or (isinstance(wrong, str) and wrong == SECOND):
        return wrong
    if isinstance(wrong, str):
        if wrong != "random":
            raise ValueError(f"wrong is {wrong!r}; write a class number, second, random or none")
        return _random_other(labels, classes, seed, ids)
    aim = torch.as_tensor(wrong)
    aim = _labels(aim.expand(len(labels)) if aim.ndim == 0 else aim, len(labels), classes)
    same = (aim == labels.cpu()).nonzero().flatten()
    if len(same):
        first = int(same[0])
        raise ValueError(
            f"wrong equals the label {int(aim[first])} of image {first} (and of {len(same)} in "
            'all); write another class, or wrong="second"'
        )
    return aim.to(labels.device)


def _random_other(labels: Labels, classes: int, seed: int, ids: Sequence[int]) -> Labels:
    """Any class but the label, each as likely, as a function of the seed and the image alone."""
    sources = (generator(seed, int(i), "wrong") for i in ids)
    steps = torch.cat([torch.randint(1, classes, (1,), generator=source) for source in sources])
    return (labels + steps.to(labels)) % classes


def _ids_by_class(labels: Labels) -> tuple[int, ...]:
    """label * stride + index within the class."""
    seen: dict[int, int] = {}
    ids = []
    for label in labels.tolist():
        ids.append(label * CLASS_STRIDE + seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
    return tuple(ids)


def _ids(ids: Sequence[int], count: int) -> tuple[int, ...]:
    if len(ids) != count or len(set(ids)) != count:
        raise ValueError(
            f"{len(set(ids))} different image ids for {count} images; expected {count}"
        )
    return tuple(int(i) for i in ids)
