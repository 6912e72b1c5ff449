"""What a training writes beside its checkpoint: loss curve, samples, TensorBoard, and the card."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from scoreag.attacks.pgd import PGD
from scoreag.core import ALGORITHM
from scoreag.core.types import Classifier, Labels
from scoreag.data.loading import Dataset
from scoreag.io.filesystem import atomic_write, write_text
from scoreag.io.images import to_float
from scoreag.io.progress import tqdm
from scoreag.io.run_dir import RunFiles
from scoreag.models.model_cards import Card, update_card, write_card
from scoreag.stats.proportion import Proportion
from scoreag.training.checkpoint import TrainState
from scoreag.training.recipes import Recipe, ScoreRecipe
from scoreag.training.schedule import TrainingSchedule

Callback = Callable[[TrainState], None]
TRAINING_FILES = RunFiles(
    (
        "checkpoint.pt", "time.json", "loss.csv", "loss.svg", f"samples/{9 * '[0-9]'}.png",
        "card.toml", "model.safetensors", "model-*-of-*.safetensors",
        f"snapshots/{9 * '[0-9]'}.safetensors", "tensorboard/events.out.tfevents.*",
    ),
    ("checkpoint.pt",),
)  # fmt: skip
TIME_SAVE_SECONDS = 20.0  # between two writes of time.json
DATASET_LICENSES = {
    "cifar10": "no terms are stated",
    "cifar100": "no terms are stated",
    "fashion-mnist": "MIT",
    "tiny-imagenet": "ImageNet's terms: research, not commerce",
}
UNKNOWN_LICENSE = "terms not known"
CARD_ENTRIES = ("network", "options", "mean", "std", "family", "sigma_data")  # not in its recipe


@dataclass
class TrainingLog:
    """Writes the loss curve, samples and the time of a training, and shows its progress.

    Args:
        every_images: images between two updates of curve and samples.
        init: the card that the training started from, whose images and minutes are added.
        save_samples: writes samples of a state to a file; None: no samples.
        callbacks: called after each step, too, e.g. to write snapshots.
        previous_seconds: the time before the training was resumed.
    """

    folder: Path
    schedule: TrainingSchedule
    every_images: int
    init: Card | None = None
    save_samples: Callable[[TrainState, Path], None] | None = None
    progress: bool = True
    callbacks: Sequence[Callback] = ()
    previous_seconds: float = 0.0
    started_at: float = field(default_factory=time.monotonic)
    last_saved: float = 0.0
    progress_bar: Any = None

    @property
    def elapsed_seconds(self) -> float:
        """The time of the training so far, that before it was resumed included."""
        return self.previous_seconds + time.monotonic() - self.started_at

    @property
    def images_before(self) -> int:
        return int(self.init.training_config.get("images_seen", 0)) if self.init else 0

    def summary(self, state: TrainState) -> dict[str, Any]:
        """Images, minutes and loss, for the card."""
        before = float(self.init.training_config.get("minutes", 0.0)) if self.init else 0.0
        return {
            "images_seen": self.images_before + state.images_seen,
            "minutes": round(before + self.elapsed_seconds / 60, 1),
            "loss": round(state.last_loss, 5),
        }

    def open(self, state: TrainState) -> None:
        """Start the clock, and write what an interruption may have left unwritten.

        The time of steps that were lost with it does not count.
        """
        file = self.folder / "time.json"
        if file.exists() and state.images_seen:
            self.previous_seconds = _read_elapsed(file, state.images_seen)
        self.started_at = time.monotonic()
        self.progress_bar = tqdm(
            total=self.schedule.total_images, initial=state.images_seen, unit="image",
            unit_scale=True, delay=2, disable=None if self.progress else True,
        )  # fmt: skip
        if state.images_seen:
            self.write_outputs(state, keep_samples=True)

    def on_step(self, state: TrainState) -> None:
        """Update the progress bar, and the files where they are due."""
        last = self.schedule.is_last(state.images_seen)
        with suppress(OSError):  # the terminal may be gone
            self.progress_bar.update(self.schedule.batch_size)
            if last:
                self.progress_bar.close()
        self.write_outputs(state)
        if last or time.monotonic() - self.last_saved > TIME_SAVE_SECONDS:
            entry = {"seen": state.images_seen, "seconds": round(self.elapsed_seconds, 1)}
            write_text(self.folder / "time.json", json.dumps(entry) + "\n")
            self.last_saved = time.monotonic()

    def write_outputs(self, state: TrainState, keep_samples: bool = False) -> None:
        """Write what is due after a step; the same state always gives the same files.

        Args:
            keep_samples: samples that exist are not written again.
        """
        for callback in self.callbacks:
            callback(state)
        previous, every = state.images_seen - self.schedule.batch_size, self.every_images
        due = state.images_seen // every > previous // every
        if not due and not self.schedule.is_last(state.images_seen):
            return
        write_curve(self.folder, [(seen + self.images_before, loss) for seen, loss in state.losses])
        file = self.folder / "samples" / f"{state.images_seen + self.images_before:09d}.png"
        if self.save_samples and not (keep_samples and file.exists()):
            file.parent.mkdir(exist_ok=True)
            self.save_samples(state, file)


def _read_elapsed(file: Path, images_seen: int) -> float:
    """The seconds until ``images_seen``, in proportion to those in time.json."""
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        fraction = min(1.0, images_seen / max(1, int(entry["seen"])))
        return float(entry["seconds"]) * fraction
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}); remove it: it holds only how long the training took"
        ) from error


def write_curve(folder: Path, losses: list[tuple[int, float]]) -> None:
    """Write loss.csv and loss.svg: the mean loss of 50 steps over the images seen."""
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
    """Refuse --tensorboard if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard; write pip install 'scoreag[train]'"
        )


def tensorboard_writer(
    folder: Path, schedule: TrainingSchedule, base_lr: float, images_seen: int
) -> Callback:
    """A callback that writes loss, rate and speed over the images seen, at each curve entry.

    Entries after ``images_seen``, of an interrupted training, are hidden.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=images_seen)
    previous, started = images_seen, time.monotonic()

    def write(state: TrainState) -> None:
        nonlocal previous, started
        seen, now = state.images_seen, time.monotonic()
        if state.losses and state.losses[-1][0] == seen:
            rate = base_lr * schedule.lr_factor(seen - schedule.batch_size)
            writer.add_scalar("loss", state.losses[-1][1], seen)
            writer.add_scalar("rate", rate, seen)
            if seen > previous:  # not at the step from which the training was resumed
                speed = (seen - previous) / max(now - started, 1e-9)
                writer.add_scalar("images a second", speed, seen)
            writer.flush()
            previous, started = seen, now
        if schedule.is_last(seen):
            writer.close()

    return write


def export(
    kind: str,
    recipe: Recipe | ScoreRecipe,
    weights: Mapping[str, Tensor],
    folder: Path,
    classes: Sequence[str],
    image_shape: tuple[int, int, int],
    provenance: Mapping[str, Any],
    init: Card | None = None,
    extra_data: Dataset | None = None,
    license: str = "",
    command: str = "",
    half: bool = True,
    max_shard_size: int | None = None,
    **entries: Any,
) -> Card:
    """Write the card and the weights into ``folder``.

    Args:
        provenance: further entries of its training_config, such as data, minutes and loss.
        license, command: as in ``train_score_model`` and ``train_classifier``.
        half: store the weights with 11 significant bits.
        max_shard_size: bytes of a weight file; more are written in several files.
        entries: of the card that depend on its kind.
    """
    config = {key: value for key, value in asdict(recipe).items() if key not in CARD_ENTRIES}
    terms = resolve_license(license, str(provenance.get("data", "")), init, extra_data)
    if not license and provenance.get("humans_license"):
        terms += f", {provenance['humans']}: {provenance['humans_license']}"
    card = Card(
        name=folder.resolve().name,
        kind=kind,
        network=recipe.network,
        file="model.safetensors",
        license=terms,
        source=_describe_source(kind, command, provenance),
        algorithm=ALGORITHM,
        image_shape=image_shape,
        classes=tuple(classes),
        training_config={**provenance, **config},
        folder=folder,
        **entries,
    )
    return write_card(card, weights, half, max_shard_size)


def describe_inputs(init: Card | None, extra_data: Dataset | None = None) -> dict[str, Any]:
    """The entries of a card on the extra data and on the card that the training started from."""
    entries: dict[str, Any] = {}
    if extra_data is not None:
        entries |= {"extra": extra_data.name, "extra_sha256": extra_data.sha256}
        entries |= {"extra_images": len(extra_data)}
    return entries | ({"init": init.name, "init_sha256": init.sha256} if init else {})


def _describe_source(kind: str, command: str, provenance: Mapping[str, Any]) -> str:
    if command:
        return f"trained by: {command}"
    pairs = [("on", provenance.get("data")), ("from", provenance.get("init"))]
    return ", ".join([f"trained as a {kind}", *(f"{word} {name}" for word, name in pairs if name)])


def resolve_license(
    license_name: str | None, data: str, init: Card | None = None, extra_data: Dataset | None = None
) -> str:
    """The given license, or "unspecified" with the terms of everything that was trained on.

    Args:
        data: the name of the training images, e.g. "cifar10:train[0:45000]".
    """
    if license_name:
        return license_name
    sources = []
    for name in filter(None, [data, extra_data.name if extra_data else ""]):
        terms = DATASET_LICENSES.get(name.partition(":")[0].partition("[")[0], UNKNOWN_LICENSE)
        sources.append(f"{name}: {terms}")
    sources += [f"{init.name}: {init.license}"] if init else []
    return f"unspecified; made from {', '.join(sources)}" if sources else "unspecified"


def measure_accuracy(
    classifier: Classifier,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    population: str,
    attacks: Mapping[str, PGD] | None = None,
    batch_size: int = 250,
) -> dict[str, dict[str, Any]]:
    """Accuracy with its denominator and interval, on the images and under each attack.

    Args:
        population: a description of the images, e.g. "test images 0-9999".
    """
    metrics = {}
    for name, attack in {"": None, **(attacks or {})}.items():
        correct = 0
        for start in range(0, len(images), batch_size):
            x, y = to_float(images[start : start + batch_size]), labels[start : start + batch_size]
            if attack:
                x = attack(classifier, x, y, image_ids=range(start, start + len(x)))
            with torch.no_grad():
                correct += int((classifier(x).argmax(1) == y).sum())
        entry = Proportion(correct, len(images), population).to_dict()
        metrics[f"accuracy_{name}" if name else "accuracy"] = entry
    return metrics


def add_metrics(card: Card, split: str, metrics: Mapping[str, Mapping[str, Any]]) -> Card:
    """The card with ``metrics`` under ``split``, e.g. "test"; they replace earlier ones."""
    return update_card(card, metrics={**card.metrics, split: metrics})
