"""How weights are updated and averaged: Muon, EMA, power-function EMA, and any width post hoc.

Muon orthogonalizes the momentum of matrices before it is applied (Jordan 2024).  torch.optim.Muon
takes no weights of convolutions.

A power-function average weighs the weights of time ``tau`` by ``tau^gamma``: at every time its
profile has the same width relative to the training so far.  Its *width* is the standard deviation
of that profile over ``t``.  A linear combination of several such averages, at several times,
approximates an average of any other width.  Karras et al. (2024), arXiv 2312.02696.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from scoreag.models import safetensors
from scoreag.models.model_cards import Card, write_card
from scoreag.training.checkpoint import TrainState, check_finite
from scoreag.training.schedule import TrainingSchedule

Matrix = Float[Tensor, "rows columns"]
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a s + b s^3 + c s^5 sends singular values toward 1
NS_STEPS = 5  # after which those above 1e-3 of the norm are between 0.7 and 1.2
MAX_WIDTH = 0.28  # at gamma = 0, the plain mean, it is 1 / sqrt(12) = 0.289
SNAPSHOT_DIR = "snapshots"


class Muon(torch.optim.Optimizer):
    """Muon for ``matrices``, AdamW with ``betas`` and ``eps`` for ``adam_params``.

    A convolution's weight is the matrix of its filters.  The step is
    ``-lr 0.2 sqrt(max(rows, columns)) orthogonal(momentum)``, whose elements have about the size of
    AdamW's, so that the same rate and decay work (Liu et al. 2025).
    The momentum is Nesterov's, and the weight decay decoupled.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        adam_params: Iterable[Tensor],
        lr: float = 3e-3,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        groups = [
            {"params": list(matrices), "lr": lr, "matrices": True},
            {"params": list(adam_params), "lr": adam_lr, "matrices": False},
        ]
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the current gradients."""
        if closure is not None:
            raise ValueError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            direction = muon_direction if group["matrices"] else adam_direction
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = direction(parameter.grad, self.state[parameter], group)
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(update, alpha=-group["lr"])


def muon_direction(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """``0.2 sqrt(max(rows, columns)) orthogonal(g + momentum (m - g))``, ``m`` the running mean."""
    mean = state.setdefault("mean", torch.zeros_like(gradient))
    mean.lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(mean, group["momentum"]).flatten(1)
    return (0.2 * math.sqrt(max(ahead.shape)) * orthogonalize(ahead)).view_as(gradient)


def orthogonalize(matrix: Matrix) -> Matrix:
    """About ``U V^T`` of ``matrix = U S V^T``, by Newton and Schulz's iteration."""
    a, b, c = NS_COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(NS_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide is matrix else x.T


def adam_direction(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The direction of Adam (Kingma and Ba 2015), with bias correction."""
    first, second = group["betas"]
    state["steps"] = steps = state.get("steps", 0) + 1
    mean = state.setdefault("mean", torch.zeros_like(gradient))
    square = state.setdefault("square", torch.zeros_like(gradient))
    mean.lerp_(gradient, 1 - first)
    square.lerp_(gradient.square(), 1 - second)
    size = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
    return mean / (1 - first**steps) / size


def hidden_matrices(network: nn.Module, excluded: Iterable[nn.Module]) -> list[Tensor]:
    """The weights of convolutions and linear layers, except those in ``excluded``.

    The first and the last layer and embedding tables are no maps between hidden features, and are
    trained better by AdamW.
    """
    skip = {id(parameter) for module in excluded for parameter in module.parameters()}
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [layer.weight for layer in layers if id(layer.weight) not in skip]


def update_averages(state: TrainState, schedule: TrainingSchedule) -> None:
    """Update the averages after a step, or copy the network if the schedule has none."""
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
    with the training (Karras et al. 2022, appendix F.2), so that the start is forgotten quickly.
    """
    _move_towards(average, network, 1 - 0.5 ** (batch_size / max(rampup_ratio * images_seen, 1e-9)))


def update_power_ema(average: nn.Module, network: nn.Module, step: int, width: float) -> None:
    """The update after ``step`` (1, 2, ...), with ``beta = (1 - 1 / step)^(gamma + 1)``."""
    _move_towards(average, network, 1 - (1 - 1 / step) ** (width_to_gamma(width) + 1))


@torch.no_grad()
def _move_towards(average: nn.Module, network: nn.Module, weight: float) -> None:
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, weight)
    for copy, current in zip(average.buffers(), network.buffers(), strict=True):
        copy.copy_(current)


def width_to_gamma(width: float) -> float:
    """gamma of a width: ``width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))``, section 3.1."""
    if not 0 < width <= MAX_WIDTH:
        raise ValueError(f"the width of an average is {width}; expected above 0 to {MAX_WIDTH}")
    t = width**-2  # gamma^3 + 7 gamma^2 + 16 gamma + 12 = t (gamma + 1)
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def solve_posthoc_weights(
    times: Sequence[float], widths: Sequence[float], time: float, width: float
) -> Float[NDArray[np.float64], " averages"]:
    """The weights of the sum of averages that approximates ``width`` at ``time``; algorithm 3.

    The least squares ``|sum_i c_i p_i - p|^2`` over profiles: ``A c = b``, where
    ``A_ij = <p_i, p_j>`` and ``b_i = <p_i, p>``.
    """
    known = [(t, width_to_gamma(w)) for t, w in zip(times, widths, strict=True)]
    target = (time, width_to_gamma(width))
    products = np.array([[profile_overlap(one, other) for other in known] for one in known])
    with_target = np.array([profile_overlap(one, target) for one in known])
    # nearly equal profiles leave directions in which only rounding errors count
    weights: NDArray[np.float64] = np.linalg.lstsq(products, with_target, rcond=1e-10)[0]
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
    """Whether to write a snapshot: ``n_snapshots`` times, the last one at the end."""
    step, count = images_seen // schedule.batch_size, max(1, schedule.n_snapshots)
    return step * count // schedule.total_steps > (step - 1) * count // schedule.total_steps


def write_snapshot(state: TrainState, schedule: TrainingSchedule, folder: Path) -> None:
    """Write the averages in half precision, as ``WIDTH:TENSOR``, into snapshots/.

    Raises:
        DivergenceError: they hold NaN or infinity.
    """
    for average in state.averages:
        check_finite(average)
    tensors = {
        f"{width}:{name}": tensor
        for width, average in zip(schedule.ema_widths, state.averages, strict=True)
        for name, tensor in average.state_dict().items()
    }
    file = folder / SNAPSHOT_DIR / f"{state.images_seen:09d}.safetensors"
    safetensors.write_safetensors(file, safetensors.to_half(tensors))


def list_snapshots(folder: Path) -> dict[int, Path]:
    """The snapshots in ``folder``, by the images seen."""
    files = (folder / SNAPSHOT_DIR).glob("*.safetensors")
    return dict(sorted((int(file.stem), file) for file in files if file.stem.isdigit()))


def load_posthoc_average(
    folder: Path, width: float, images_seen: int | None = None
) -> dict[str, Tensor]:
    """The average of ``width``, computed from the snapshots in ``folder``.

    Args:
        images_seen: its time, by default that of the last snapshot; later ones are ignored.

    Raises:
        ValueError: there are no snapshots, or one of them is damaged.
    """
    averages = [
        (float(time), own, file)
        for time, file in list_snapshots(folder).items()
        if images_seen is None or time <= images_seen
        for own in _read_widths(file)
    ]
    if not averages:
        raise ValueError(
            f"{folder} has no snapshots to make an average of; "
            "train with a preset that has ema_widths"
        )
    times, widths, _ = zip(*averages, strict=True)
    weights = solve_posthoc_weights(times, widths, times[-1], width)
    total: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    for weight, (_, own, file) in zip(weights.tolist(), averages, strict=True):
        for name, tensor in _read_tensors(file, own).items():
            is_count = not tensor.is_floating_point()
            total[name] = tensor if is_count else total[name] + weight * tensor.double()
    return {name: t.float() if t.is_floating_point() else t for name, t in total.items()}


def checkpoint_at(card: Card, fraction: float, folder: Path) -> Card:
    """The card's average after a fraction of its training, written into ``folder`` as a card.

    It is that of the nearest snapshot, when the learning rate had not yet decayed as at the end.

    Raises:
        ValueError: it is no fraction, or there is no snapshot near it.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"{fraction:g} is no fraction of a training; expected one above 0 and below 1"
        )
    times = list(list_snapshots(card.folder))
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
    weights = {name.removeprefix("network."): tensor for name, tensor in tensors.items()}
    return write_card(earlier, weights, fp16=True)


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
