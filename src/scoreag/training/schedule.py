"""How long a training is, how fast it learns, and which images each step sees, augmented how.

Part of a batch may be extra data, such as a score model's samples; Wang et al. (2023).
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from scoreag.core.devices import send
from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels
from scoreag.data.loading import Dataset

Crops = Float[Tensor, "_ _ _ _"]
Pixels = UInt8[Tensor, "count channel height width"]
OMIT_IF_DEFAULT = {"later": True}  # marks a setting that the manifests of older versions lack


@dataclass(frozen=True)
class Batch:
    """The images of a step, by their positions in the data."""

    step: int
    epoch: int
    indices: Tensor
    progress: float  # fraction of the training images that earlier steps saw


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast.

    Args:
        total_images: training images, counted each time that a step sees them.
        warmup_fraction, decay_fraction: fractions of the training over which the learning rate
            rises from 0 and falls to 0, linearly; between them it is constant.
        ema_rampup_ratio: half-life of the EMA as a fraction of the images seen; 0: no EMA.
        max_grad_norm: the gradient is clipped to this norm; 0: no clipping.
        ema_widths: relative widths of power-function EMAs instead; the first one is exported.
        n_snapshots: how often these are written, evenly over the training.
    """

    total_images: int
    batch_size: int
    seed: int = 0
    warmup_fraction: float = 0.05
    decay_fraction: float = 0.3
    ema_rampup_ratio: float = 0.0
    max_grad_norm: float = 0.0
    dtype: str = "float32"
    ema_widths: tuple[float, ...] = field(default=(), metadata=OMIT_IF_DEFAULT)
    n_snapshots: int = field(default=16, metadata=OMIT_IF_DEFAULT)

    def __post_init__(self) -> None:
        if self.ema_widths and self.ema_rampup_ratio:
            raise ValueError(
                f"ema_rampup_ratio {self.ema_rampup_ratio:g} and ema_widths {self.ema_widths} are "
                "two kinds of average; set ema_rampup_ratio to 0 or ema_widths to ()"
            )

    @property
    def total_steps(self) -> int:
        """The last step may exceed ``total_images``."""
        return -(-self.total_images // self.batch_size)

    def is_last(self, images_seen: int) -> bool:
        return images_seen >= self.total_images

    def lr_factor(self, images_seen: int) -> float:
        """The fraction of the peak rate of the next step, taken at its midpoint."""
        progress = (images_seen / self.batch_size + 0.5) / self.total_steps
        rise = progress / self.warmup_fraction if self.warmup_fraction else 1.0
        fall = (1 - progress) / self.decay_fraction if self.decay_fraction else 1.0
        return min(1.0, rise, fall)


def to_config_dict(recipe: Any) -> dict[str, Any]:
    """A recipe or a schedule as a dictionary for the manifest.

    A setting that is marked ``OMIT_IF_DEFAULT`` is left out at its default, so that a folder of a
    version without that setting can be resumed.
    """
    table = {}
    for setting in fields(recipe):
        value, default = getattr(recipe, setting.name), setting.default
        if default is MISSING and setting.default_factory is not MISSING:
            default = setting.default_factory()
        if not (setting.metadata.get("later") and value == default):
            table[setting.name] = to_config_dict(value) if is_dataclass(value) else value
    return table


def iter_batches(count: int, schedule: TrainingSchedule, first_step: int = 0) -> Iterator[Batch]:
    """The batches of the steps: each epoch in another order, without its incomplete batch."""
    steps_per_epoch = max(1, count // schedule.batch_size)
    epoch, order = -1, torch.empty(0)
    for step in range(first_step, schedule.total_steps):
        if step // steps_per_epoch != epoch:
            epoch = step // steps_per_epoch
            order = Stream(schedule.seed, "epoch", epoch).permutation(count)
        start = (step % steps_per_epoch) * schedule.batch_size
        indices = order[start : start + schedule.batch_size]
        yield Batch(step, epoch, indices, step * schedule.batch_size / schedule.total_images)


def mix_batches(
    count: int,
    schedule: TrainingSchedule,
    first_step: int = 0,
    *,
    n_own: int,
    extra_fraction: float,
) -> Iterator[Batch]:
    """``iter_batches`` for data whose rows from ``n_own`` on are the extra data.

    Each part has its own order and epochs: every image of a part is seen once before any of them
    is seen again, whatever the sizes of the parts.  ``epoch`` is that of the own images.
    """
    n_extra = extra_batch_size(schedule.batch_size, extra_fraction)

    def batches(n_images: int, batch_size: int, seed: int) -> Iterator[Batch]:
        total = batch_size * schedule.total_steps
        part = replace(schedule, batch_size=batch_size, total_images=total, seed=seed)
        return iter_batches(n_images, part, first_step)

    own = batches(n_own, schedule.batch_size - n_extra, schedule.seed)
    # the other seed makes the orders differ if both parts have the same size
    extra = batches(count - n_own, n_extra, -1 - schedule.seed)
    for batch, added in zip(own, extra, strict=True):
        progress = batch.step * schedule.batch_size / schedule.total_images
        indices = torch.cat([batch.indices, n_own + added.indices])
        yield Batch(batch.step, batch.epoch, indices, progress)


def extra_batch_size(batch_size: int, extra_fraction: float) -> int:
    """The number of extra images in a batch: at least one, and not all."""
    return min(batch_size - 1, max(1, round(extra_fraction * batch_size)))


def concat_extra(images: Pixels, labels: Labels, extra_data: Dataset) -> tuple[Tensor, Tensor]:
    """The own images and labels, followed by the extra ones."""
    assert extra_data.labels is not None
    return torch.cat([images, extra_data.images]), torch.cat([labels, extra_data.labels.to(labels)])


def check_extra(
    extra_data: Dataset | None,
    images: Pixels,
    classes: int,
    schedule: TrainingSchedule,
    extra_fraction: float,
) -> None:
    """Refuse extra data that do not fit the images or the fraction."""
    if extra_data is None or not extra_fraction:
        if extra_data is not None or extra_fraction:
            given = f"extra data {extra_data.name!r}" if extra_data is not None else ""
            lacks = f"{given} but no fraction" if given else "no extra data"
            raise ValueError(
                f"extra_fraction is {extra_fraction:g}, with {lacks}; give both, e.g. 0.7, or "
                "neither"
            )
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


def random_flip(images: Images, source: Stream) -> Images:
    """Each image mirrored left to right with probability one half."""
    return _flip(images, source.uniform((len(images),)) < 0.5)


def alternating_flip(images: Images, ids: Int[Tensor, " batch"], epoch: int) -> Images:
    """Each image mirrored in every other epoch, half of them in the even ones.

    Two epochs then show 2 views of each image, where ``random_flip`` shows 1.5 (Jordan 2024).
    """
    return _flip(images, ((ids * 2654435761) // 65536 + epoch) % 2 == 0)


def _flip(images: Images, mask: Tensor) -> Images:
    return torch.where(send(mask, images.device)[:, None, None, None], images.flip(3), images)


def random_shift(
    images: Images, pixels: int, source: Stream, size: tuple[int, ...] | None = None
) -> Crops:
    """Each image shifted by up to ``pixels`` along both axes, with reflection padding.

    Args:
        size: height and width of the crop; by default those of the images.
    """
    padded = pad(images, (pixels,) * 4, mode="reflect")
    return random_crop(padded, size or tuple(images.shape[2:]), source)


def random_crop(images: Images, size: tuple[int, ...], source: Stream) -> Crops:
    """A crop of ``size`` (height, width) of each image, at a uniformly random place."""
    (count, _, image_height, image_width), (height, width) = images.shape, size
    top = source.integers(image_height - height + 1, (count, 1, 1))
    left = source.integers(image_width - width + 1, (count, 1, 1))
    rows, columns = top + torch.arange(height)[:, None], left + torch.arange(width)
    places = (torch.arange(count)[:, None, None], rows, columns)
    image, row, column = (send(place, images.device) for place in places)
    return images[image, :, row, column].permute(0, 3, 1, 2)
