"""The state of a training, its file, and how a training that diverges is noticed."""

import copy
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from scoreag.io.filesystem import atomic_write
from scoreag.io.safe_unpickler import load_tensors

MEDIAN_WINDOW = 200  # steps whose median loss is the baseline
PATIENCE = 10  # steps in a row with a far higher loss
DIVERGENCE_FACTOR = 10.0  # times the baseline


class DivergenceError(ValueError):
    """The loss diverged, and the weights are useless."""


@dataclass
class DivergenceMonitor:
    """Watches the losses of single steps."""

    baseline: deque[float] = field(default_factory=lambda: deque(maxlen=MEDIAN_WINDOW))
    n_bad: int = 0  # steps in a row

    def check(self, loss: float) -> None:
        """Record a loss.

        Raises:
            DivergenceError: it is not finite, or the last ``PATIENCE`` losses were all above
                ``DIVERGENCE_FACTOR`` times the median of those before them.
        """
        if not math.isfinite(loss):
            raise DivergenceError(f"the loss is {loss}")
        bad = len(self.baseline) >= PATIENCE and loss > DIVERGENCE_FACTOR * median(self.baseline)
        self.n_bad = self.n_bad + 1 if bad else 0
        if not bad:
            self.baseline.append(loss)
        if self.n_bad >= PATIENCE:
            raise DivergenceError(
                f"the loss was above {DIVERGENCE_FACTOR:g} times its median, "
                f"{median(self.baseline):.4g}, for {PATIENCE} steps, the last time {loss:.4g}"
            )


def check_finite(network: nn.Module) -> None:
    """Refuse weights with NaN or infinity, which must not replace a good checkpoint."""
    for name, weights in network.named_parameters():
        if not weights.isfinite().all():
            raise DivergenceError(f"the weights {name} hold NaN or infinity")


@dataclass
class TrainState:
    """The content of a checkpoint.

    Args:
        average: the weights that are exported; ``other_averages`` have other widths.
        losses: pairs of the images seen and the mean loss of the steps before.
        recent_losses: of the steps since the last pair.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module
    images_seen: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)
    other_averages: list[nn.Module] = field(default_factory=list)
    monitor: DivergenceMonitor = field(default_factory=DivergenceMonitor)

    @property
    def averages(self) -> list[nn.Module]:
        return [self.average, *self.other_averages]

    @property
    def last_loss(self) -> float:
        """The mean of the last tenth of the loss curve."""
        tail = [loss for _, loss in self.losses[-max(1, len(self.losses) // 10) :]]
        return sum(tail) / max(1, len(tail))

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.images_seen,
            "losses": self.losses,
            "recent": self.recent_losses,
            "others": [other.state_dict() for other in self.other_averages],
            "usual": list(self.monitor.baseline),
            "far": self.monitor.n_bad,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``; those of older versions lack some entries."""
        others = saved.get("others", [])
        if len(others) != len(self.other_averages):
            raise ValueError(
                f"it has {1 + len(others)} averages, not {1 + len(self.other_averages)}"
            )
        self.network.load_state_dict(saved["network"])
        for module, tensors in zip(self.averages, [saved["average"], *others], strict=True):
            module.load_state_dict(tensors)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.images_seen = saved["seen"]
        self.losses = [(int(n), float(v)) for n, v in saved["losses"]]
        self.recent_losses = [float(v) for v in saved.get("recent", [])]
        self.monitor.baseline.extend(float(v) for v in saved.get("usual", []))
        self.monitor.n_bad = int(saved.get("far", 0))


def init_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, n_averages: int = 1
) -> TrainState:
    """The state before the first step."""
    copies = [copy.deepcopy(network).requires_grad_(False) for _ in range(max(1, n_averages))]
    return TrainState(network, optimizer, copies[0], other_averages=copies[1:])


def load_checkpoint(state: TrainState, file: Path) -> TrainState:
    """The state of the checkpoint ``file``, if there is one, else ``state`` as it is.

    Raises:
        ValueError: the checkpoint is damaged, or of another training.
    """
    try:
        if file.exists():
            state.load_state_dict(load_tensors(file))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].split("; ")[0].rstrip(":.")
        raise ValueError(
            f"{file} is no checkpoint of this training ({reason}); "
            "remove it or give --overwrite to start from scratch"
        ) from error
    return state


def save_checkpoint(state: TrainState, file: Path) -> None:
    """Write the checkpoint completely, or keep the previous one.

    Raises:
        OSError: the disk is full.
    """

    def write(path: Path) -> None:
        try:
            with path.open("wb") as opened:
                torch.save(state.state_dict(), opened)
        except RuntimeError as error:  # by which torch hides that the disk is full
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    atomic_write(file, write)
