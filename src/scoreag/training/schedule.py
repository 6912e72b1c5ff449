"""How long a training is, how fast it learns, and which images each step sees."""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from scoreag.core.rng import Stream

OMIT_IF_DEFAULT = {
    "later": True
}  # marks a setting that older folders lack; at its default it is not told


@dataclass(frozen=True)
class Batch:
    """Which images a step sees: their positions in the data, and how far the training is."""

    step: int
    epoch: int
    indices: Tensor
    progress: float  # share of the images seen before this step


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast.

    Args:
        images: training images to be seen, each time counted.
        warmup, decay: shares of the training over which the rate rises from 0 and falls to 0,
            linearly; between them it is constant.
        ema: half-life of the weight average as a share of the images seen; 0 keeps none.
        clip: largest norm of a step's gradient; 0 leaves it alone.
        widths: relative widths of power-function averages in place of ``ema``; the first is used.
        snapshots: how many times these averages are written, evenly over the training.
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
                f"ema_rampup_ratio {self.ema_rampup_ratio:g} and ema_widths {self.ema_widths} are two "
                "kinds of average; set ema_rampup_ratio to 0 or ema_widths to ()"
            )

    @property
    def total_steps(self) -> int:
        """So many that ``images`` were seen, or up to one batch more."""
        return -(-self.total_images // self.batch_size)

    def lr_factor(self, images_seen: int) -> float:
        """The share of the full rate at which the next step is taken: that of its midpoint."""
        done = (images_seen / self.batch_size + 0.5) / self.total_steps
        rise = done / self.warmup_fraction if self.warmup_fraction else 1.0
        fall = (1 - done) / self.decay_fraction if self.decay_fraction else 1.0
        return min(1.0, rise, fall)


def iter_batches(count: int, schedule: TrainingSchedule, first_step: int = 0) -> Iterator[Batch]:
    """The steps' images: each epoch another order, its incomplete batch left out."""
    an_epoch = max(1, count // schedule.batch_size)
    epoch, order = -1, torch.empty(0)
    for step in range(first_step, schedule.total_steps):
        if step // an_epoch != epoch:
            epoch = step // an_epoch
            order = Stream(schedule.seed, "epoch", epoch).permutation(count)
        start = (step % an_epoch) * schedule.batch_size
        ids = order[start : start + schedule.batch_size]
        yield Batch(step, epoch, ids, step * schedule.batch_size / schedule.total_images)


def to_config_dict(recipe: Any) -> dict[str, Any]:
    """The settings of a recipe or a plan as a table, without those marked ``LATER`` at defaults.

    A folder that an older version wrote then goes on: it asks for nothing else.
    """
    table = {}
    for setting in fields(recipe):
        value = getattr(recipe, setting.name)
        usual = setting.default
        if usual is MISSING and setting.default_factory is not MISSING:
            usual = setting.default_factory()
        if not (setting.metadata.get("later") and value == usual):
            table[setting.name] = to_config_dict(value) if is_dataclass(value) else value
    return table
