"""What a training leaves beside its checkpoint: the loss curve, sample grids, and its time."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write, write_text
from scoreag.io.run_dir import RunFiles
from scoreag.training.loop import TrainingSchedule, TrainState, load_checkpoint

TRAINING_FILES = RunFiles(
    (
        "checkpoint.pt",
        "time.json",
        "loss.csv",
        "loss.svg",
        f"samples/{9 * '[0-9]'}.png",
        "card.toml",
        "model.safetensors",
        f"snapshots/{9 * '[0-9]'}.safetensors",
        "tensorboard/events.out.tfevents.*",
    ),
    ("checkpoint.pt",),
)
TIME_SAVE_SECONDS = 20.0  # between two notes of the time


@dataclass
class TrainingLog:
    """Watches a training.

    Args:
        every: images between two entries of curve and samples.
        before: images that the network had seen before this training.
        draw: writes samples of a state to a file; by default there are none.
        further: watches too, e.g. to keep snapshots.
    """

    folder: Path
    plan: TrainingSchedule
    every_images: int
    images_before: int = 0
    save_samples: Callable[[TrainState, Path], None] | None = None
    progress: bool = True
    callbacks: Sequence[Callable[[TrainState], None]] = ()
    previous_seconds: float = 0.0  # seconds, in earlier sittings
    started_at: float = field(default_factory=time.monotonic)
    last_saved: float = 0.0
    progress_bar: Any = None

    @property
    def elapsed_seconds(self) -> float:
        """What the training took so far, all sittings together."""
        return self.previous_seconds + time.monotonic() - self.started_at

    def open(self, state: TrainState) -> None:
        """Count the time from here on; what a lost part of the last sitting took is left out."""
        file = self.folder / "time.json"
        if file.exists() and state.images_seen:
            self.previous_seconds = _read_elapsed(file, state.images_seen)
        self.started_at = time.monotonic()
        self.progress_bar = tqdm(
            total=self.plan.total_images, initial=state.images_seen, unit="image", unit_scale=True,
            delay=2, disable=None if self.progress else True,
        )  # fmt: skip

    def on_step(self, state: TrainState) -> None:
        """After a step: the bar, and now and then an entry."""
        last = state.images_seen >= self.plan.total_images
        self._update_bar(self.plan.batch_size, last)
        self.write_outputs(state)
        if last or time.monotonic() - self.last_saved > TIME_SAVE_SECONDS:
            noted = {"seen": state.images_seen, "seconds": round(self.elapsed_seconds, 1)}
            write_text(self.folder / "time.json", json.dumps(noted) + "\n")
            self.last_saved = time.monotonic()

    def write_outputs(self, state: TrainState, keep_samples: bool = False) -> None:
        """What a step leaves; the same files, however often it is called with the same state.

        Args:
            again: keep the samples that are there, which take time.
        """
        for watch in self.callbacks:
            watch(state)
        last = state.images_seen >= self.plan.total_images
        if (
            last
            or state.images_seen // self.every_images
            > (state.images_seen - self.plan.batch_size) // self.every_images
        ):
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


def resume_or_start(state: TrainState, file: Path) -> TrainState:
    """``resume``, where what cannot be gone on from is told with its remedy."""
    try:
        return load_checkpoint(state, file)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].split("; ")[0].rstrip(":.")
        raise ValueError(
            f"{file} is no checkpoint of this training ({reason}); "
            "remove it or give --overwrite to start afresh"
        ) from error


def _read_elapsed(file: Path, images_seen: int) -> float:
    """The seconds that it took to see so many images, of those noted in ``file``."""
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        share = min(1.0, images_seen / max(1, int(noted["seen"])))
        return float(noted["seconds"]) * share
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); remove it: it holds only how long the training took"
        ) from error


def write_curve(folder: Path, losses: list[tuple[int, float]]) -> None:
    """loss.csv and loss.svg: the mean loss of 50 steps over the images seen."""
    lines = [f"{seen},{loss:.6f}" for seen, loss in losses]
    write_text(folder / "loss.csv", "\n".join(["images_seen,loss", *lines]) + "\n")
    drawing = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = drawing.add_subplot()
    axes.plot([seen for seen, _ in losses], [loss for _, loss in losses])
    axes.set(xlabel="images seen", ylabel="loss, mean of 50 steps")
    axes.grid(alpha=0.2)
    style: dict[Any, Any] = {"svg.hashsalt": "scoreag", "svg.fonttype": "none"}

    def write(aside: Path) -> None:
        with rc_context(style):
            drawing.savefig(aside, format="svg", metadata={"Date": None, "Creator": None})

    atomic_write(folder / "loss.svg", write)


def last_loss(state: TrainState) -> float:
    """The mean of the last tenth of the curve."""
    tail = [loss for _, loss in state.losses[-max(1, len(state.losses) // 10) :]]
    return sum(tail) / max(1, len(tail))
