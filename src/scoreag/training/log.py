"""What a training leaves beside its checkpoint: loss curve, sample grids, its time, TensorBoard."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write, write_text
from scoreag.io.run_dir import RunFiles
from scoreag.training.checkpoint import TrainState
from scoreag.training.schedule import TrainingSchedule

TRAINING_FILES = RunFiles(
    (
        "checkpoint.pt", "time.json", "loss.csv", "loss.svg", f"samples/{9 * '[0-9]'}.png",
        "card.toml", "model.safetensors", f"snapshots/{9 * '[0-9]'}.safetensors",
        "tensorboard/events.out.tfevents.*",
    ),
    ("checkpoint.pt",),
)  # fmt: skip
TIME_SAVE_SECONDS = 20.0  # between two notes of the time


@dataclass
class TrainingLog:
    """Watches a training.

    Args:
        every_images: images between two entries of curve and samples.
        images_before, minutes_before: of the card that this training started from.
        save_samples: writes samples of a state to a file; by default there are none.
        callbacks: called as well, e.g. to keep snapshots.
        previous_seconds: of earlier sittings.
    """

    folder: Path
    schedule: TrainingSchedule
    every_images: int
    images_before: int = 0
    minutes_before: float = 0.0
    save_samples: Callable[[TrainState, Path], None] | None = None
    progress: bool = True
    callbacks: Sequence[Callable[[TrainState], None]] = ()
    previous_seconds: float = 0.0
    started_at: float = field(default_factory=time.monotonic)
    last_saved: float = 0.0
    progress_bar: Any = None

    @property
    def elapsed_seconds(self) -> float:
        """The time of the training so far, all sittings together."""
        return self.previous_seconds + time.monotonic() - self.started_at

    def summary(self, state: TrainState) -> dict[str, Any]:
        """What a card says of the training."""
        return {
            "images_seen": self.images_before + state.images_seen,
            "minutes": round(self.minutes_before + self.elapsed_seconds / 60, 1),
            "loss": round(state.last_loss, 5),
        }

    def open(self, state: TrainState) -> None:
        """Count the time from here on; a lost part of the last sitting is left out."""
        file = self.folder / "time.json"
        if file.exists() and state.images_seen:
            self.previous_seconds = _read_elapsed(file, state.images_seen)
        self.started_at = time.monotonic()
        self.progress_bar = tqdm(
            total=self.schedule.total_images, initial=state.images_seen, unit="image",
            unit_scale=True, delay=2, disable=None if self.progress else True,
        )  # fmt: skip

    def on_step(self, state: TrainState) -> None:
        """After a step: the bar, and now and then an entry."""
        last = self.schedule.is_last(state.images_seen)
        self._update_bar(self.schedule.batch_size, last)
        self.write_outputs(state)
        if last or time.monotonic() - self.last_saved > TIME_SAVE_SECONDS:
            entry = {"seen": state.images_seen, "seconds": round(self.elapsed_seconds, 1)}
            write_text(self.folder / "time.json", json.dumps(entry) + "\n")
            self.last_saved = time.monotonic()

    def write_outputs(self, state: TrainState, keep_samples: bool = False) -> None:
        """What a step leaves; the same files, however often it is called with the same state.

        Args:
            keep_samples: those that are there are not drawn again.
        """
        for callback in self.callbacks:
            callback(state)
        previous, every = state.images_seen - self.schedule.batch_size, self.every_images
        due = state.images_seen // every > previous // every
        if due or self.schedule.is_last(state.images_seen):
            self.write_entry(state, keep_samples)

    def write_entry(self, state: TrainState, keep_samples: bool = False) -> None:
        """The curve up to now, and samples."""
        write_curve(self.folder, [(seen + self.images_before, loss) for seen, loss in state.losses])
        file = self.folder / "samples" / f"{state.images_seen + self.images_before:09d}.png"
        if self.save_samples and not (keep_samples and file.exists()):
            file.parent.mkdir(exist_ok=True)
            self.save_samples(state, file)

    def _update_bar(self, images: int, last: bool) -> None:
        """The bar goes on; where its terminal is gone, the training goes on without it."""
        with suppress(OSError):
            self.progress_bar.update(images)
            if last:
                self.progress_bar.close()


def _read_elapsed(file: Path, images_seen: int) -> float:
    """The seconds that it took to see so many images, of those noted in ``file``."""
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        fraction = min(1.0, images_seen / max(1, int(entry["seen"])))
        return float(entry["seconds"]) * fraction
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); remove it: it holds only how long the training took"
        ) from error


def write_curve(folder: Path, losses: list[tuple[int, float]]) -> None:
    """loss.csv and loss.svg: the mean loss of 50 steps over the images seen."""
    lines = [f"{seen},{loss:.6f}" for seen, loss in losses]
    write_text(folder / "loss.csv", "\n".join(["images_seen,loss", *lines]) + "\n")
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([seen for seen, _ in losses], [loss for _, loss in losses])
    axes.set(xlabel="images seen", ylabel="loss, mean of 50 steps")
    axes.grid(alpha=0.2)
    style: dict[Any, Any] = {"svg.hashsalt": "scoreag", "svg.fonttype": "none"}

    def write(path: Path) -> None:
        with rc_context(style):
            figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})

    atomic_write(folder / "loss.svg", write)


def require_tensorboard() -> None:
    """Refuse at the door where TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard; write pip install 'scoreag[train]'"
        )


def tensorboard_writer(
    folder: Path, schedule: TrainingSchedule, base_lr: float, images_seen: int
) -> Callable[[TrainState], None]:
    """A callback that writes loss, rate and speed at each entry of the curve, over images seen.

    Args:
        images_seen: before this sitting; what an earlier one wrote from there on is hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen)
    last = [images_seen, time.monotonic()]

    def write(state: TrainState) -> None:
        seen = state.images_seen
        if not state.recent_losses:
            images, now = seen - last[0], time.monotonic()
            speed = images / max(now - last[1], 1e-9)
            last[:] = seen, now
            writer.add_scalar("loss", state.losses[-1][1], seen)
            rate = base_lr * schedule.lr_factor(seen - schedule.batch_size)
            writer.add_scalar("rate", rate, seen)
            if images:  # else it is the step at which the sitting began
                writer.add_scalar("images a second", speed, seen)
            writer.flush()
        if schedule.is_last(seen):
            writer.close()

    return write
