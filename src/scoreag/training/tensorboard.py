"""Curves for TensorBoard, which is an optional package."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from scoreag.training.checkpoint import TrainState
from scoreag.training.schedule import TrainingSchedule

LOGDIR = "tensorboard"


def require_tensorboard() -> None:
    """Refuse at the door where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard; write pip install 'scoreag[train]'"
        )


def tensorboard_writer(
    folder: Path, schedule: TrainingSchedule, base_lr: float, images_seen: int
) -> Callable[[TrainState], None]:
    """A watcher that writes loss, rate and speed at each entry of the curve, over images seen.

    Args:
        full_rate: the recipe's learning rate.
        seen: images before this sitting; what an earlier one wrote from there on is hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / LOGDIR), purge_step=images_seen)
    last = [images_seen, monotonic()]

    def watch(state: TrainState) -> None:
        if not state.recent_losses:
            images, now = state.images_seen - last[0], monotonic()
            speed = images / max(now - last[1], 1e-9)
            last[:] = state.images_seen, now
            writer.add_scalar("loss", state.losses[-1][1], state.images_seen)
            writer.add_scalar(
                "rate",
                base_lr * schedule.lr_factor(state.images_seen - schedule.batch_size),
                state.images_seen,
            )
            if images:  # else it is the step at which the sitting began
                writer.add_scalar("images a second", speed, state.images_seen)
            writer.flush()
        if state.images_seen >= schedule.total_images:
            writer.close()

    return watch
