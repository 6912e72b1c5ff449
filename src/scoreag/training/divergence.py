"""When a training is past saving: a loss that is no number, or one that ran away."""

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from torch import nn

MEDIAN_WINDOW = 200  # steps whose median is the usual loss
PATIENCE = 10  # steps in a row, each far above it
DIVERGENCE_FACTOR = 10.0  # times


class DivergenceError(ValueError):
    """The weights are worth nothing any more."""


@dataclass
class DivergenceMonitor:
    """Watches the losses of single steps."""

    baseline: deque[float] = field(default_factory=lambda: deque(maxlen=MEDIAN_WINDOW))
    n_bad: int = 0  # steps in a row

    def check(self, loss: float) -> None:
        """Take note of a loss.

        Raises:
            Diverged: it is no number, or ``PATIENCE`` losses in a row were ``FAR`` times the median
                of up to ``WINDOW`` before them.
        """
        if not math.isfinite(loss):
            raise DivergenceError(f"the loss is {loss}")
        high = len(self.baseline) >= PATIENCE and loss > DIVERGENCE_FACTOR * median(self.baseline)
        self.n_bad = self.n_bad + 1 if high else 0
        if not high:
            self.baseline.append(loss)
        if self.n_bad >= PATIENCE:
            raise DivergenceError(
                f"the loss was above {DIVERGENCE_FACTOR:g} times its median, {median(self.baseline):.4g}, "
                f"for {PATIENCE} steps, the last time {loss:.4g}"
            )


def check_finite(network: nn.Module) -> None:
    """Refuse weights that are no numbers: a checkpoint of them would replace a good one."""
    for name, weights in network.named_parameters():
        if not weights.isfinite().all():
            raise DivergenceError(f"the weights {name} hold NaN or infinity")
