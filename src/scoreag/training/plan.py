"""How long a training is, how fast it learns, and which images each step sees."""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from scoreag.core.noise import Stream

LATER = {"later": True}  # marks a setting that older folders lack; at its default it is not told


@dataclass(frozen=True)
class Batch:
    """Which images a step sees: their positions in the data, and how far the training is."""

    step: int
    epoch: int
    ids: Tensor
    done: float  # share of the images seen before this step


@dataclass(frozen=True)
class Plan:
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

    images: int
    batch: int
    seed: int = 0
    warmup: float = 0.05
    decay: float = 0.3
    ema: float = 0.0
    clip: float = 0.0
    precision: str = "float32"
    widths: tuple[float, ...] = field(default=(), metadata=LATER)
    snapshots: int = field(default=16, metadata=LATER)

    def __post_init__(self) -> None:
        if self.widths and self.ema:
            raise ValueError(
                f"ema {self.ema:g} and widths {self.widths} are two kinds of average; set ema to 0 "
                "or widths to ()"
            )

    @property
    def steps(self) -> int:
        """So many that ``images`` were seen, or up to one batch more."""
        return -(-self.images // self.batch)

    def factor(self, seen: int) -> float:
        """The share of the full rate at which the next step is taken: that of its midpoint."""
        done = (seen / self.batch + 0.5) / self.steps
        rise = done / self.warmup if self.warmup else 1.0
        fall = (1 - done) / self.decay if self.decay else 1.0
        return min(1.0, rise, fall)


def batches(count: int, plan: Plan, first: int = 0) -> Iterator[Batch]:
    """The steps' images: each epoch another order, its incomplete batch left out."""
    an_epoch = max(1, count // plan.batch)
    epoch, order = -1, torch.empty(0)
    for step in range(first, plan.steps):
        if step // an_epoch != epoch:
            epoch = step // an_epoch
            order = Stream(plan.seed, "epoch", epoch).permutation(count)
        start = (step % an_epoch) * plan.batch
        ids = order[start : start + plan.batch]
        yield Batch(step, epoch, ids, step * plan.batch / plan.images)


def told(recipe: Any) -> dict[str, Any]:
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
            table[setting.name] = told(value) if is_dataclass(value) else value
    return table
