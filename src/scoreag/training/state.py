"""All that a training remembers, and its checkpoint, which is whole and finite or the old one."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoreag.files import load_tensors, replace_file
from scoreag.training.diverged import Health


@dataclass
class State:
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
    seen: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    others: list[nn.Module] = field(default_factory=list)
    health: Health = field(default_factory=Health)

    @property
    def averages(self) -> list[nn.Module]:
        return [self.average, *self.others]

    def tensors(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "losses": self.losses,
            "recent": self.recent,
            "others": [other.state_dict() for other in self.others],
            "usual": list(self.health.usual),
            "far": self.health.far,
        }


def begin(network: nn.Module, optimizer: torch.optim.Optimizer, averages: int = 1) -> State:
    """A state in which nothing was learnt yet."""
    copies = [copy.deepcopy(network).requires_grad_(False) for _ in range(max(1, averages))]
    return State(network, optimizer, copies[0], others=copies[1:])


def resume(state: State, file: Path) -> State:
    """Continue from ``file`` if there is one; else from the beginning."""
    if not file.exists():
        return state
    saved = load_tensors(file)
    others = saved.get("others", [])
    if len(others) != len(state.others):
        raise ValueError(f"it has {1 + len(others)} averages, not {1 + len(state.others)}")
    state.network.load_state_dict(saved["network"])
    for module, tensors in zip(state.averages, [saved["average"], *others], strict=True):
        module.load_state_dict(tensors)
    state.optimizer.load_state_dict(saved["optimizer"])
    state.seen, state.losses = saved["seen"], [(int(n), float(v)) for n, v in saved["losses"]]
    state.recent = [float(v) for v in saved.get("recent", [])]
    state.health.usual.extend(float(v) for v in saved.get("usual", []))
    state.health.far = int(saved.get("far", 0))
    return state


def save(state: State, file: Path) -> None:
    """The checkpoint, whole or not at all.

    Raises:
        OSError: there is no space for it; the old one is kept.
    """
    replace_file(file, lambda aside: _write(state.tensors(), aside))


def _write(tensors: dict[str, Any], aside: Path) -> None:
    try:
        with aside.open("wb") as file:
            torch.save(tensors, file)
    except RuntimeError as error:  # in which torch hides that the disk is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
