"""Averages kept on the way, in half precision, and the average of any width made of them."""

from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scoreag.models import safetensors
from scoreag.training.checkpoint import TrainState
from scoreag.training.posthoc_ema import solve_posthoc_weights
from scoreag.training.schedule import TrainingSchedule

SNAPSHOT_DIR = "snapshots"


def is_snapshot_due(images_seen: int, schedule: TrainingSchedule) -> bool:
    """Whether the averages are to be kept: ``plan.snapshots`` times, the last at the end."""
    step, steps, wanted = (
        images_seen // schedule.batch_size,
        schedule.total_steps,
        max(1, schedule.n_snapshots),
    )
    return step * wanted // steps > (step - 1) * wanted // steps


def write_snapshot(state: TrainState, schedule: TrainingSchedule, folder: Path) -> None:
    """Write the averages of ``state``, as ``WIDTH:TENSOR``, into snapshots/SEEN.safetensors."""
    averages = {
        f"{width}:{name}": tensor
        for width, average in zip(schedule.ema_widths, state.averages, strict=True)
        for name, tensor in average.state_dict().items()
    }
    file = folder / SNAPSHOT_DIR / f"{state.images_seen:09d}.safetensors"
    safetensors.write_safetensors(file, safetensors.to_half(averages))


def list_snapshots(folder: Path) -> list[int]:
    """How many images had been seen at each of the snapshots in ``folder``."""
    files = (folder / SNAPSHOT_DIR).glob("*.safetensors")
    return sorted(int(file.stem) for file in files if file.stem.isdigit())


def load_posthoc_average(
    folder: Path, width: float, images_seen: int | None = None
) -> dict[str, Tensor]:
    """The average of ``width`` after ``seen`` images, made of the snapshots in ``folder``.

    Args:
        seen: by default, when the last snapshot was taken; later ones are left out.

    Raises:
        ValueError: there are no snapshots, or one of them is damaged.
    """
    times = [time for time in list_snapshots(folder) if images_seen is None or time <= images_seen]
    files = [folder / SNAPSHOT_DIR / f"{time:09d}.safetensors" for time in times]
    if not files:
        raise ValueError(
            f"{folder} has no snapshots to make an average of; train with a preset that has ema_widths"
        )
    kept = [(float(file.stem), own, file) for file in files for own in _read_widths(file)]
    weights = solve_posthoc_weights(
        [time for time, _, _ in kept], [w for _, w, _ in kept], kept[-1][0], width
    )
    total: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for weight, (_, own, file) in zip(weights.tolist(), kept, strict=True):
        for name, tensor in _read_tensors(file, own).items():
            whole = not tensor.is_floating_point()  # a count is no average
            total[name] = tensor if whole else total[name] + weight * tensor.double()
    return {name: t.float() if t.is_floating_point() else t for name, t in total.items()}


def _read_widths(file: Path) -> list[float]:
    try:
        with safe_open(file, "pt") as opened:
            return sorted({float(name.partition(":")[0]) for name in opened.keys()})  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is no snapshot ({error}); remove it") from error


def _read_tensors(file: Path, width: float) -> dict[str, Tensor]:
    mark = f"{width}:"
    with safe_open(file, "pt") as opened:
        names = [name for name in opened.keys() if name.startswith(mark)]  # noqa: SIM118
        return {name.removeprefix(mark): opened.get_tensor(name) for name in names}
