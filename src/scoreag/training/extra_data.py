"""Batches of which a share is extra data, such as a score model's samples; Wang et al. (2023)."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.data.loading import Dataset
from scoreag.training.loop import Batch, TrainingSchedule, iter_batches

Pixels = UInt8[Tensor, "count channel height width"]


def mix_batches(
    count: int,
    schedule: TrainingSchedule,
    first_step: int = 0,
    *,
    n_own: int,
    extra_fraction: float,
) -> Iterator[Batch]:
    """``loop.batches`` for data whose rows from ``own`` on are the extra ones.

    Either part has an order and epochs of its own, so that every image comes once before any of
    its part comes again, however large the other is.  ``epoch`` is that of the own images.
    """
    extra = extra_batch_size(schedule.batch_size, extra_fraction)
    ours = _sub_schedule(schedule, schedule.batch_size - extra, schedule.seed)
    theirs = _sub_schedule(
        schedule, extra, -1 - schedule.seed
    )  # another order, also where both are as many
    pairs = zip(
        iter_batches(n_own, ours, first_step),
        iter_batches(count - n_own, theirs, first_step),
        strict=True,
    )
    for real, added in pairs:
        done = real.step * schedule.batch_size / schedule.total_images
        yield Batch(real.step, real.epoch, torch.cat([real.indices, n_own + added.indices]), done)


def extra_batch_size(batch_size: int, extra_fraction: float) -> int:
    """How many of a batch are extra images: at least one, and not all."""
    return min(batch_size - 1, max(1, round(extra_fraction * batch_size)))


def concat_extra(images: Pixels, labels: Labels, extra_data: Dataset) -> tuple[Tensor, Tensor]:
    """One's own images and labels, then the extra ones."""
    assert extra_data.labels is not None
    return torch.cat([images, extra_data.images]), torch.cat([labels, extra_data.labels.to(labels)])


def check_extra(
    extra_data: Dataset | None,
    images: Pixels,
    classes: int,
    schedule: TrainingSchedule,
    extra_fraction: float,
) -> None:
    """Refuse extra data that do not belong to the images.

    Raises:
        ValueError: a share without data or the reverse, no labels, another shape, other classes,
            or fewer images than a batch takes.
    """
    if extra_data is None or not extra_fraction:
        if extra_data is None and not extra_fraction:
            return
        lacks = (
            "no extra data"
            if extra_data is None
            else f"extra data {extra_data.name!r} but no share"
        )
        raise ValueError(
            f"extra_fraction is {extra_fraction:g}, with {lacks}; give both, e.g. 0.7, or neither"
        )
    if extra_data.labels is None:
        raise ValueError(f"{extra_data.name} has no labels; extra data need them")
    if extra_data.images.shape[1:] != images.shape[1:]:
        theirs, ours = (" x ".join(map(str, x.shape[1:])) for x in (extra_data.images, images))
        raise ValueError(
            f"{extra_data.name} has {theirs} images, and the training images are {ours}"
        )
    if not 0 <= int(extra_data.labels.min()) <= int(extra_data.labels.max()) < classes:
        raise ValueError(
            f"{extra_data.name} has labels {int(extra_data.labels.min())} to {int(extra_data.labels.max())}; "
            f"the training images have 0 to {classes - 1}"
        )
    if len(extra_data) < (wanted := extra_batch_size(schedule.batch_size, extra_fraction)):
        raise ValueError(
            f"{extra_data.name} has {len(extra_data)} images, and a batch takes {wanted}; give at least "
            "that many, or a smaller batch or share"
        )


def _sub_schedule(schedule: TrainingSchedule, batch_size: int, seed: int) -> TrainingSchedule:
    """As many steps as ``plan`` has, of smaller batches."""
    return replace(
        schedule, batch_size=batch_size, total_images=batch_size * schedule.total_steps, seed=seed
    )
