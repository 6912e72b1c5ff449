"""Averages kept on the way, in half precision, and the average of any width made of them."""

from collections import defaultdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scoreag import tensors
from scoreag.training.plan import Plan
from scoreag.training.power_ema import combination
from scoreag.training.state import State

PLACE = "snapshots"


def due(seen: int, plan: Plan) -> bool:
    """Whether the averages are to be kept: ``plan.snapshots`` times, the last at the end."""
    step, steps, wanted = seen // plan.batch, plan.steps, max(1, plan.snapshots)
    return step * wanted // steps > (step - 1) * wanted // steps


def keep(state: State, plan: Plan, folder: Path) -> None:
    """Write the averages of ``state``, as ``WIDTH:TENSOR``, into snapshots/SEEN.safetensors."""
    averages = {
        f"{width}:{name}": tensor
        for width, average in zip(plan.widths, state.averages, strict=True)
        for name, tensor in average.state_dict().items()
    }
    file = folder / PLACE / f"{state.seen:09d}.safetensors"
    tensors.write(file, tensors.halved(averages))


def seen_at(folder: Path) -> list[int]:
    """How many images had been seen at each of the snapshots in ``folder``."""
    files = (folder / PLACE).glob("*.safetensors")
    return sorted(int(file.stem) for file in files if file.stem.isdigit())


def post_hoc(folder: Path, width: float, seen: int | None = None) -> dict[str, Tensor]:
    """The average of ``width`` after ``seen`` images, made of the snapshots in ``folder``.

    Args:
        seen: by default, when the last snapshot was taken; later ones are left out.

    Raises:
        ValueError: there are no snapshots, or one of them is damaged.
    """
    times = [time for time in seen_at(folder) if seen is None or time <= seen]
    files = [folder / PLACE / f"{time:09d}.safetensors" for time in times]
    if not files:
        raise ValueError(
            f"{folder} has no snapshots to make an average of; train with a preset that has widths"
        )
    kept = [(float(file.stem), own, file) for file in files for own in _widths(file)]
    weights = combination(
        [time for time, _, _ in kept], [w for _, w, _ in kept], kept[-1][0], width
    )
    total: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for weight, (_, own, file) in zip(weights.tolist(), kept, strict=True):
        for name, tensor in _tensors(file, own).items():
            whole = not tensor.is_floating_point()  # a count is no average
            total[name] = tensor if whole else total[name] + weight * tensor.double()
    return {name: t.float() if t.is_floating_point() else t for name, t in total.items()}


def _widths(file: Path) -> list[float]:
    try:
        with safe_open(file, "pt") as opened:
            return sorted({float(name.partition(":")[0]) for name in opened.keys()})  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is no snapshot ({error}); remove it") from error


def _tensors(file: Path, width: float) -> dict[str, Tensor]:
    mark = f"{width}:"
    with safe_open(file, "pt") as opened:
        names = [name for name in opened.keys() if name.startswith(mark)]  # noqa: SIM118
        return {name.removeprefix(mark): opened.get_tensor(name) for name in names}
