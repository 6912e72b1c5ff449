"""What a batch holds: one's own images, a fraction of extra data, flipped, shifted and cropped.

Extra data are such as a score model's samples; Wang et al. (2023).
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels
from scoreag.data.loading import Dataset
from scoreag.training.schedule import Batch, TrainingSchedule, iter_batches

Crops = Float[Tensor, "_ _ _ _"]
Pixels = UInt8[Tensor, "count channel height width"]


def random_flip(images: Images, source: Stream) -> Images:
    """Each image mirrored left to right with probability one half."""
    return _flip(images, source.uniform((len(images),)) < 0.5)


def alternating_flip(images: Images, ids: Int[Tensor, " batch"], epoch: int) -> Images:
    """Each image mirrored in every other epoch, half of them in the even ones.

    Two epochs then show 2 views of each image, where ``random_flip`` shows 1.5 (Jordan 2024).
    """
    return _flip(images, ((ids * 2654435761) // 65536 + epoch) % 2 == 0)


def _flip(images: Images, mask: Tensor) -> Images:
    return torch.where(mask.to(images.device)[:, None, None, None], images.flip(3), images)


def random_shift(
    images: Images, pixels: int, source: Stream, size: tuple[int, ...] | None = None
) -> Crops:
    """Each image moved by up to ``pixels`` along both axes, its border mirrored to fill the gap.

    Args:
        size: height and width of a window to cut of it; by default all.
    """
    padded = pad(images, (pixels,) * 4, mode="reflect")
    return random_crop(padded, size or tuple(images.shape[2:]), source)


def random_crop(images: Images, size: tuple[int, ...], source: Stream) -> Crops:
    """A window of ``size`` (height, width) of each image, anywhere with equal probability."""
    (count, _, image_height, image_width), (height, width) = images.shape, size
    top = source.integers(image_height - height + 1, (count, 1, 1))
    left = source.integers(image_width - width + 1, (count, 1, 1))
    rows, columns = top + torch.arange(height)[:, None], left + torch.arange(width)
    return images[torch.arange(count)[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def mix_batches(
    count: int,
    schedule: TrainingSchedule,
    first_step: int = 0,
    *,
    n_own: int,
    extra_fraction: float,
) -> Iterator[Batch]:
    """``iter_batches`` for data whose rows from ``n_own`` on are the extra ones.

    Either part has an order and epochs of its own: every image comes once before any of its part
    comes again, however large the other is.  ``epoch`` is that of the own images.
    """
    n_extra = extra_batch_size(schedule.batch_size, extra_fraction)
    own = _sub_schedule(schedule, schedule.batch_size - n_extra, schedule.seed)
    # another order, also where both parts are of one size
    extra = _sub_schedule(schedule, n_extra, -1 - schedule.seed)
    pairs = zip(
        iter_batches(n_own, own, first_step),
        iter_batches(count - n_own, extra, first_step),
        strict=True,
    )
    for batch, added in pairs:
        progress = batch.step * schedule.batch_size / schedule.total_images
        indices = torch.cat([batch.indices, n_own + added.indices])
        yield Batch(batch.step, batch.epoch, indices, progress)


def extra_batch_size(batch_size: int, extra_fraction: float) -> int:
    """How many of a batch are extra images: at least one, and not all."""
    return min(batch_size - 1, max(1, round(extra_fraction * batch_size)))


def _sub_schedule(schedule: TrainingSchedule, batch_size: int, seed: int) -> TrainingSchedule:
    """As many steps, of smaller batches."""
    total = batch_size * schedule.total_steps
    return replace(schedule, batch_size=batch_size, total_images=total, seed=seed)


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
        ValueError: a fraction without data or the reverse, no labels, another shape, other classes,
            or fewer images than a batch takes.
    """
    if extra_data is None or not extra_fraction:
        _check_both_or_neither(extra_data, extra_fraction)
        return
    name, labels = extra_data.name, extra_data.labels
    if labels is None:
        raise ValueError(f"{name} has no labels; extra data need them")
    if extra_data.images.shape[1:] != images.shape[1:]:
        theirs, ours = (" x ".join(map(str, x.shape[1:])) for x in (extra_data.images, images))
        raise ValueError(f"{name} has {theirs} images, and the training images are {ours}")
    low, high = int(labels.min()), int(labels.max())
    if not 0 <= low <= high < classes:
        raise ValueError(
            f"{name} has labels {low} to {high}; the training images have 0 to {classes - 1}"
        )
    if len(extra_data) < (needed := extra_batch_size(schedule.batch_size, extra_fraction)):
        raise ValueError(
            f"{name} has {len(extra_data)} images, and a batch takes {needed}; give at least "
            "that many, or a smaller batch or fraction"
        )


def _check_both_or_neither(extra_data: Dataset | None, extra_fraction: float) -> None:
    if extra_data is None and not extra_fraction:
        return
    lacks = "no extra data"
    if extra_data is not None:
        lacks = f"extra data {extra_data.name!r} but no fraction"
    raise ValueError(
        f"extra_fraction is {extra_fraction:g}, with {lacks}; give both, e.g. 0.7, or neither"
    )
