"""All that a training remembers, and its checkpoint, which is whole and finite or the old one."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoreag.io.filesystem import atomic_write
from scoreag.io.safe_unpickler import load_tensors
from scoreag.training.divergence import DivergenceMonitor


@dataclass
class TrainState:
    """All that a checkpoint holds.  ``average`` is what is used in the end.

    Args:
        others: further averages, of other widths.
        losses: images seen, and the mean loss of the last steps.
        recent: the losses of the steps since.
        health: what is known of single losses, by which a divergence is seen.
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
    """A state in which nothing was learnt yet."""
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
    state.images_seen, state.losses = (
        saved["seen"],
        [(int(n), float(v)) for n, v in saved["losses"]],
    )
    state.recent_losses = [float(v) for v in saved.get("recent", [])]
    state.monitor.baseline.extend(float(v) for v in saved.get("usual", []))
    state.monitor.n_bad = int(saved.get("far", 0))
    return state


def save_checkpoint(state: TrainState, file: Path) -> None:
    """The checkpoint, whole or not at all.

    Raises:
        OSError: there is no space for it; the old one is kept.
    """
    atomic_write(file, lambda aside: _write(state.state_dict(), aside))


def _write(tensors: dict[str, Any], aside: Path) -> None:
    try:
        with aside.open("wb") as file:
            torch.save(tensors, file)
    except RuntimeError as error:  # in which torch hides that the disk is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
