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

from scoreag.files import replace_file, write_text
from scoreag.training.loop import Plan, State, resume

OURS = (
    "checkpoint.pt",
    "time.json",
    "loss.csv",
    "loss.svg",
    f"samples/{9 * '[0-9]'}.png",
    "card.toml",
    "model.safetensors",
    f"snapshots/{9 * '[0-9]'}.safetensors",
    "tensorboard/events.out.tfevents.*",
)
QUIET_SECONDS = 20.0  # between two notes of the time


@dataclass
class Journal:
    """Watches a training.

    Args:
        every: images between two entries of curve and samples.
        before: images that the network had seen before this training.
        draw: writes samples of a state to a file; by default there are none.
        further: watches too, e.g. to keep snapshots.
    """

    folder: Path
    plan: Plan
    every: int
    before: int = 0
    draw: Callable[[State, Path], None] | None = None
    progress: bool = True
    further: Sequence[Callable[[State], None]] = ()
    spent: float = 0.0  # seconds, in earlier sittings
    started: float = field(default_factory=time.monotonic)
    noted: float = 0.0
    bar: Any = None

    @property
    def seconds(self) -> float:
        """What the training took so far, all sittings together."""
        return self.spent + time.monotonic() - self.started

    def open(self, state: State) -> None:
        """Count the time from here on; what a lost part of the last sitting took is left out."""
        file = self.folder / "time.json"
        if file.exists() and state.seen:
            self.spent = _spent(file, state.seen)
        self.started = time.monotonic()
        self.bar = tqdm(
            total=self.plan.images, initial=state.seen, unit="image", unit_scale=True,
            delay=2, disable=None if self.progress else True,
        )  # fmt: skip

    def watch(self, state: State) -> None:
        """After a step: the bar, and now and then an entry."""
        last = state.seen >= self.plan.images
        self._show(self.plan.batch, last)
        self.leave(state)
        if last or time.monotonic() - self.noted > QUIET_SECONDS:
            noted = {"seen": state.seen, "seconds": round(self.seconds, 1)}
            write_text(self.folder / "time.json", json.dumps(noted) + "\n")
            self.noted = time.monotonic()

    def leave(self, state: State, again: bool = False) -> None:
        """What a step leaves; the same files, however often it is called with the same state.

        Args:
            again: keep the samples that are there, which take time.
        """
        for watch in self.further:
            watch(state)
        last = state.seen >= self.plan.images
        if last or state.seen // self.every > (state.seen - self.plan.batch) // self.every:
            self.enter(state, again)

    def enter(self, state: State, again: bool = False) -> None:
        """The curve up to now, and samples."""
        write_curve(self.folder, [(seen + self.before, loss) for seen, loss in state.losses])
        file = self.folder / "samples" / f"{state.seen + self.before:09d}.png"
        if self.draw and not (again and file.exists()):
            file.parent.mkdir(exist_ok=True)
            self.draw(state, file)

    def _show(self, images: int, last: bool) -> None:
        """The bar goes on; where its terminal is gone, the training goes on without it."""
        with suppress(OSError):
            self.bar.update(images)
            if last:
                self.bar.close()


def continued(state: State, file: Path) -> State:
    """``resume``, where what cannot be gone on from is told with its remedy."""
    try:
        return resume(state, file)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].split("; ")[0].rstrip(":.")
        raise ValueError(
            f"{file} is no checkpoint of this training ({reason}); "
            "remove it or give --overwrite to start afresh"
        ) from error


def _spent(file: Path, seen: int) -> float:
    """The seconds that it took to see so many images, of those noted in ``file``."""
    try:
        noted = json.loads(file.read_text(encoding="utf-8"))
        share = min(1.0, seen / max(1, int(noted["seen"])))
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

    replace_file(folder / "loss.svg", write)


def last_loss(state: State) -> float:
    """The mean of the last tenth of the curve."""
    tail = [loss for _, loss in state.losses[-max(1, len(state.losses) // 10) :]]
    return sum(tail) / max(1, len(tail))
