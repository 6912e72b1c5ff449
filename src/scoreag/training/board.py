"""Curves for TensorBoard, which is an optional package."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from scoreag.training.plan import Plan
from scoreag.training.state import State

PLACE = "tensorboard"


def check_board() -> None:
    """Refuse at the door where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard; write pip install 'scoreag[train]'"
        )


def board(folder: Path, plan: Plan, full_rate: float, seen: int) -> Callable[[State], None]:
    """A watcher that writes loss, rate and speed at each entry of the curve, over images seen.

    Args:
        full_rate: the recipe's learning rate.
        seen: images before this sitting; what an earlier one wrote from there on is hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / PLACE), purge_step=seen)
    last = [seen, monotonic()]

    def watch(state: State) -> None:
        if not state.recent:
            images, now = state.seen - last[0], monotonic()
            speed = images / max(now - last[1], 1e-9)
            last[:] = state.seen, now
            writer.add_scalar("loss", state.losses[-1][1], state.seen)
            writer.add_scalar("rate", full_rate * plan.factor(state.seen - plan.batch), state.seen)
            if images:  # else it is the step at which the sitting began
                writer.add_scalar("images a second", speed, state.seen)
            writer.flush()
        if state.seen >= plan.images:
            writer.close()

    return watch
