"""Averages of the weights: EMA, power-function EMA, and any width post hoc from snapshots.

A power-function average weighs the weights of time ``tau`` by ``tau^gamma``: relative to the
training it is as wide at every time.  Its *width* is the deviation of that profile over ``t``.  A
linear combination of several such averages, at several times, comes close to any other one.
Karras et al. (2024), arXiv 2312.02696.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from scoreag.models import safetensors
from scoreag.models.model_cards import Card, write_card
from scoreag.training.checkpoint import TrainState
from scoreag.training.schedule import TrainingSchedule

MAX_WIDTH = 0.28  # at gamma = 0, the plain mean, it is 1 / sqrt(12) = 0.289
SNAPSHOT_DIR = "snapshots"


def update_averages(state: TrainState, schedule: TrainingSchedule) -> None:
    """After a step: the averages that the schedule asks for, or the network itself."""
    if schedule.ema_widths:
        step = state.images_seen // schedule.batch_size
        for average, width in zip(state.averages, schedule.ema_widths, strict=True):
            update_power_ema(average, state.network, step, width)
    elif ratio := schedule.ema_rampup_ratio:
        update_ema(state.average, state.network, schedule.batch_size, state.images_seen, ratio)
    else:
        state.average.load_state_dict(state.network.state_dict())


def update_ema(
    average: nn.Module, network: nn.Module, batch_size: int, images_seen: int, rampup_ratio: float
) -> None:
    """The update after a batch: ``average += (1 - beta) (network - average)``.

    ``beta = 2^(-batch_size / h)`` with the half-life ``h = rampup_ratio images_seen``, which grows
    with the training (Karras et al. 2022, appendix F.2), so that the start is soon forgotten.
    """
    _move_towards(average, network, 1 - 0.5 ** (batch_size / max(rampup_ratio * images_seen, 1e-9)))


def update_power_ema(average: nn.Module, network: nn.Module, step: int, width: float) -> None:
    """The update after ``step`` (1, 2, ...), with ``beta = (1 - 1 / step)^(gamma + 1)``.

    The first step is the average itself.
    """
    _move_towards(average, network, 1 - (1 - 1 / step) ** (width_to_gamma(width) + 1))


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, weight: float) -> None:
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, weight)
    for copy, current in zip(average.buffers(), network.buffers(), strict=True):
        copy.copy_(current)


def width_to_gamma(width: float) -> float:
    """gamma of a width: ``width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))``, section 3.1.

    Raises:
        ValueError: no profile ``tau^gamma`` with gamma above 0 is so wide.
    """
    if not 0 < width <= MAX_WIDTH:
        raise ValueError(f"the width of an average is {width}; expected above 0 to {MAX_WIDTH}")
    t = width**-2  # gamma^3 + 7 gamma^2 + 16 gamma + 12 = t (gamma + 1)
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def solve_posthoc_weights(
    times: Sequence[float], widths: Sequence[float], time: float, width: float
) -> Float[NDArray[np.float64], " averages"]:
    """Weights with which averages add up, nearly, to that of ``width`` at ``time``; algorithm 3.

    The least squares ``|sum_i c_i p_i - p|^2`` over profiles: ``A c = b``, where
    ``A_ij = <p_i, p_j>`` and ``b_i = <p_i, p>``.
    """
    known = [(t, width_to_gamma(w)) for t, w in zip(times, widths, strict=True)]
    wanted = (time, width_to_gamma(width))
    products = np.array([[profile_overlap(one, other) for other in known] for one in known])
    with_wanted = np.array([profile_overlap(one, wanted) for one in known])
    # profiles that lie close together leave directions that rounding alone decides
    weights: NDArray[np.float64] = np.linalg.lstsq(products, with_wanted, rcond=1e-10)[0]
    return weights


def profile_overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """``<p, q>`` of two (time, gamma), where ``p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)``.

    Up to the earlier time ``s`` the integral of the product is
    ``(g + 1) (h + 1) s^(g + h + 1) / ((g + h + 1) t^(g + 1) u^(h + 1))``.
    """
    (t, g), (u, h) = one, other
    s = min(t, u)
    logs = (g + h + 1) * math.log(s) - (g + 1) * math.log(t) - (h + 1) * math.log(u)
    return (g + 1) * (h + 1) / (g + h + 1) * math.exp(logs)


def is_snapshot_due(images_seen: int, schedule: TrainingSchedule) -> bool:
    """Whether the averages are to be written: ``n_snapshots`` times, the last at the end."""
    step, count = images_seen // schedule.batch_size, max(1, schedule.n_snapshots)
    return step * count // schedule.total_steps > (step - 1) * count // schedule.total_steps


def write_snapshot(state: TrainState, schedule: TrainingSchedule, folder: Path) -> None:
    """Write the averages in half precision, as ``WIDTH:TENSOR``, in snapshots/."""
    tensors = {
        f"{width}:{name}": tensor
        for width, average in zip(schedule.ema_widths, state.averages, strict=True)
        for name, tensor in average.state_dict().items()
    }
    file = _snapshot_file(folder, state.images_seen)
    safetensors.write_safetensors(file, safetensors.to_half(tensors))


def list_snapshots(folder: Path) -> list[int]:
    """How many images had been seen at each of the snapshots in ``folder``."""
    files = (folder / SNAPSHOT_DIR).glob("*.safetensors")
    return sorted(int(file.stem) for file in files if file.stem.isdigit())


def load_posthoc_average(
    folder: Path, width: float, images_seen: int | None = None
) -> dict[str, Tensor]:
    """The average of ``width``, made of the snapshots in ``folder``.

    Args:
        images_seen: its time, by default that of the last snapshot; later ones are left out.

    Raises:
        ValueError: there are no snapshots, or one of them is damaged.
    """
    times = [time for time in list_snapshots(folder) if images_seen is None or time <= images_seen]
    files = [_snapshot_file(folder, time) for time in times]
    if not files:
        raise ValueError(
            f"{folder} has no snapshots to make an average of; "
            "train with a preset that has ema_widths"
        )
    averages = [(float(file.stem), own, file) for file in files for own in _read_widths(file)]
    weights = solve_posthoc_weights(
        [time for time, _, _ in averages], [own for _, own, _ in averages], averages[-1][0], width
    )
    total: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for weight, (_, own, file) in zip(weights.tolist(), averages, strict=True):
        for name, tensor in _read_tensors(file, own).items():
            counts = not tensor.is_floating_point()  # which are no average
            total[name] = tensor if counts else total[name] + weight * tensor.double()
    return {name: t.float() if t.is_floating_point() else t for name, t in total.items()}


def checkpoint_at(card: Card, fraction: float, folder: Path) -> Card:
    """The card's average after a fraction of its training, written into ``folder`` as a card.

    It is taken at the snapshot that is nearest; the learning rate had not fallen as far as at the
    end of a training of that length.

    Raises:
        ValueError: it is no fraction, or there is no snapshot near it.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"{fraction:g} is no fraction of a training; expected one above 0 and below 1"
        )
    times = list_snapshots(card.folder)
    if len(times) < 2:
        raise ValueError(
            f"{card.name} has no snapshots beside its card, so it cannot be had as it was earlier; "
            "train it here with a preset that has ema_widths, or give cards"
        )
    end = times[-1]
    time = min(times, key=lambda one: abs(one - fraction * end))
    if time == end or abs(time / end - fraction) > 0.51 / len(times):
        raise ValueError(
            f"no snapshot was kept near {fraction:g}; "
            f"write a fraction from {times[0] / end:g} to {times[-2] / end:g}"
        )
    config = {k: v for k, v in card.training_config.items() if k not in ("minutes", "loss")}
    width = config.get("ema_width") or config["schedule"]["ema_widths"][0]
    config["images_seen"] = int(config["images_seen"]) - end + time
    tensors = load_posthoc_average(card.folder, width, time)
    earlier = replace(
        card, name=f"{card.name} after {config['images_seen']}", file="model.safetensors",
        folder=folder, training_config=config, metrics={},
    )  # fmt: skip
    return write_card(
        earlier, {n.removeprefix("network."): t for n, t in tensors.items()}, fp16=True
    )


def _snapshot_file(folder: Path, images_seen: int) -> Path:
    return folder / SNAPSHOT_DIR / f"{images_seen:09d}.safetensors"


def _read_widths(file: Path) -> list[float]:
    try:
        with safe_open(file, "pt") as opened:
            return sorted({float(name.partition(":")[0]) for name in opened.keys()})  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is no snapshot ({error}); remove it") from error


def _read_tensors(file: Path, width: float) -> dict[str, Tensor]:
    prefix = f"{width}:"
    with safe_open(file, "pt") as opened:
        names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
