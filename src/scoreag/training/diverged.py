"""When a training is past saving: a loss that is no number, or one that ran away."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from torch import nn

WINDOW = 200  # steps whose median is the usual loss
PATIENCE = 10  # steps in a row, each far above it
FAR = 10.0  # times


class Diverged(ValueError):
    """The weights are worth nothing any more."""


@dataclass
class Health:
    """Watches the losses of single steps."""

    usual: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    far: int = 0  # steps in a row

    def check(self, loss: float) -> None:
        """Take note of a loss.

        Raises:
            Diverged: it is no number, or ``PATIENCE`` losses in a row were ``FAR`` times the median
                of up to ``WINDOW`` before them.
        """
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss}")
        high = len(self.usual) >= PATIENCE and loss > FAR * median(self.usual)
        self.far = self.far + 1 if high else 0
        if not high:
            self.usual.append(loss)
        if self.far >= PATIENCE:
            raise Diverged(
                f"the loss was above {FAR:g} times its median, {median(self.usual):.4g}, "
                f"for {PATIENCE} steps, the last time {loss:.4g}"
            )


def check_finite(network: nn.Module) -> None:
    """Refuse weights that are no numbers: a checkpoint of them would replace a good one."""
    for name, weights in network.named_parameters():
        if not weights.isfinite().all():
            raise Diverged(f"the weights {name} hold NaN or infinity")
