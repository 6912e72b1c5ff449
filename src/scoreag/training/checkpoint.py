"""The state of a training, and its checkpoint: whole and finite, or the previous one."""

import copy
import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from scoreag.io.filesystem import atomic_write
from scoreag.io.safe_unpickler import load_tensors

MEDIAN_WINDOW = 200  # steps whose median is the baseline
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
    """Refuse weights with NaN or infinity: a checkpoint of them would replace a good one."""
    for name, weights in network.named_parameters():
        if not weights.isfinite().all():
            raise DivergenceError(f"the weights {name} hold NaN or infinity")


@dataclass
class TrainState:
    """All that a checkpoint holds.

    Args:
        average: the weights that are exported.
        losses: images seen, and the mean loss of the last steps.
        recent_losses: those of the steps since.
        other_averages: further averages, of other widths.
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
        """The mean of the last tenth of the curve."""
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


def init_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, n_averages: int = 1
) -> TrainState:
    """The state before the first step."""
    copies = [copy.deepcopy(network).requires_grad_(False) for _ in range(max(1, n_averages))]
    return TrainState(network, optimizer, copies[0], other_averages=copies[1:])


def load_checkpoint(state: TrainState, file: Path) -> TrainState:
    """Continue from ``file`` if there is one; else from the beginning."""
    if not file.exists():
        return state
    saved = load_tensors(file)
    others = saved.get("others", [])
    if len(others) != len(state.other_averages):
        raise ValueError(f"it has {1 + len(others)} averages, not {1 + len(state.other_averages)}")
    state.network.load_state_dict(saved["network"])
    for module, tensors in zip(state.averages, [saved["average"], *others], strict=True):
        module.load_state_dict(tensors)
    state.optimizer.load_state_dict(saved["optimizer"])
    state.images_seen = saved["seen"]
    state.losses = [(int(n), float(v)) for n, v in saved["losses"]]
    state.recent_losses = [float(v) for v in saved.get("recent", [])]
    state.monitor.baseline.extend(float(v) for v in saved.get("usual", []))
    state.monitor.n_bad = int(saved.get("far", 0))
    return state


def resume_or_start(state: TrainState, file: Path) -> TrainState:
    """``load_checkpoint``, with the remedy where that cannot be."""
    try:
        return load_checkpoint(state, file)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].split("; ")[0].rstrip(":.")
        raise ValueError(
            f"{file} is no checkpoint of this training ({reason}); "
            "remove it or give --overwrite to start afresh"
        ) from error


def save_checkpoint(state: TrainState, file: Path) -> None:
    """Write the checkpoint, whole or not at all.

    Raises:
        OSError: there is no space for it; the previous one is kept.
    """
    atomic_write(file, lambda temporary: _write(state.state_dict(), temporary))


def _write(tensors: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(tensors, file)
    except RuntimeError as error:  # in which torch hides that the disk is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
