"""How long a training is, how fast it learns, and which images each step sees."""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from scoreag.core.rng import Stream

OMIT_IF_DEFAULT = {"later": True}  # marks a setting that older folders do not have


@dataclass(frozen=True)
class Batch:
    """Which images a step sees: their positions in the data, and how far the training is."""

    step: int
    epoch: int
    indices: Tensor
    progress: float  # fraction of the images seen before this step


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast.

    Args:
        total_images: training images to be seen, each time counted.
        warmup_fraction, decay_fraction: fractions of the training over which the learning rate
            rises from 0 and falls to 0, linearly; between them it is constant.
        ema_rampup_ratio: half-life of the EMA as a fraction of the images seen; 0: no EMA.
        max_grad_norm: the gradient is clipped to this norm; 0: it is not.
        ema_widths: relative widths of power-function EMAs instead; the first one is exported.
        n_snapshots: how many times these are written, evenly over the training.
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
        """So many that ``total_images`` are seen, or up to one batch more."""
        return -(-self.total_images // self.batch_size)

    def is_last(self, images_seen: int) -> bool:
        return images_seen >= self.total_images

    def lr_factor(self, images_seen: int) -> float:
        """The fraction of the peak rate at which the next step is taken: that of its midpoint."""
        progress = (images_seen / self.batch_size + 0.5) / self.total_steps
        rise = progress / self.warmup_fraction if self.warmup_fraction else 1.0
        fall = (1 - progress) / self.decay_fraction if self.decay_fraction else 1.0
        return min(1.0, rise, fall)


def iter_batches(count: int, schedule: TrainingSchedule, first_step: int = 0) -> Iterator[Batch]:
    """The steps' images: each epoch another order, its incomplete batch left out."""
    steps_per_epoch = max(1, count // schedule.batch_size)
    epoch, order = -1, torch.empty(0)
    for step in range(first_step, schedule.total_steps):
        if step // steps_per_epoch != epoch:
            epoch = step // steps_per_epoch
            order = Stream(schedule.seed, "epoch", epoch).permutation(count)
        start = (step % steps_per_epoch) * schedule.batch_size
        indices = order[start : start + schedule.batch_size]
        yield Batch(step, epoch, indices, step * schedule.batch_size / schedule.total_images)


def to_config_dict(recipe: Any) -> dict[str, Any]:
    """A recipe or a schedule as a table, without what is marked ``OMIT_IF_DEFAULT`` at its default.

    A folder from before such a setting is then resumed: it asks for nothing else.
    """
    table = {}
    for setting in fields(recipe):
        value, default = getattr(recipe, setting.name), setting.default
        if default is MISSING and setting.default_factory is not MISSING:
            default = setting.default_factory()
        if not (setting.metadata.get("later") and value == default):
            table[setting.name] = to_config_dict(value) if is_dataclass(value) else value
    return table
