"""One training loop for every network: batches, rates, averages, and checkpoints that resume.

Step ``k`` draws its batch and its noise from ``generator(seed, ..., k)``: nothing about the random
state has to be remembered, and a run that was stopped goes on as if it had not been.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor, nn

from scoreag.core.noise import generator
from scoreag.core.types import Images, Labels
from scoreag.files import load_tensors, replace_file
from scoreag.training.ema import follow
from scoreag.training.interrupt import held_back

Loss: TypeAlias = Callable[[nn.Module, Images, Labels, Generator], Tensor]


@dataclass(frozen=True)
class Batch:
    """Which images a step sees: their positions in the data, and how far the training is."""

    step: int
    epoch: int
    ids: Tensor
    done: float  # share of the images seen before this step


Prepare: TypeAlias = Callable[[Images, Batch, Generator], Images]


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Args:
        images: training images to be seen, each time counted.
        warmup, decay: shares of the training over which the rate rises from 0 and falls to 0,
            linearly; between them it is constant.
        ema: half-life of the weight average as a share of the images seen; 0 keeps none.
        clip: largest norm of a step's gradient; 0 leaves it alone.
    """

    images: int
    batch: int
    seed: int = 0
    warmup: float = 0.05
    decay: float = 0.3
    ema: float = 0.0
    clip: float = 0.0
    precision: str = "float32"

    @property
    def steps(self) -> int:
        """So many that ``images`` were seen, or up to one batch more."""
        return -(-self.images // self.batch)

    def factor(self, seen: int) -> float:
        """The share of the full rate at which the next step is taken: that of its midpoint."""
        done = (seen / self.batch + 0.5) / self.steps
        rise = done / self.warmup if self.warmup else 1.0
        fall = (1 - done) / self.decay if self.decay else 1.0
        return min(1.0, rise, fall)


@dataclass
class State:
    """All that a checkpoint holds.  ``average`` is what is used in the end."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module
    seen: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)  # images seen, mean loss
    recent: list[float] = field(default_factory=list)  # of the steps since

    def tensors(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "losses": self.losses,
            "recent": self.recent,
        }


def begin(network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """A state in which nothing was learnt yet."""
    return State(network, optimizer, copy.deepcopy(network).requires_grad_(False))


def resume(state: State, file: Path) -> State:
    """Continue from ``file`` if there is one; else from the beginning."""
    if not file.exists():
        return state
    saved = load_tensors(file)
    state.network.load_state_dict(saved["network"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.seen, state.losses = saved["seen"], [(int(n), float(v)) for n, v in saved["losses"]]
    state.recent = [float(v) for v in saved.get("recent", [])]
    return state


def fit(
    state: State,
    loss: Loss,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    plan: Plan,
    file: Path,
    save_every: float = 60.0,
    watch: Callable[[State], None] = lambda state: None,
    prepare: Prepare = lambda images, batch, source: images,
    after: Callable[["State", Plan], None] | None = None,
) -> State:
    """Train until ``plan.images`` were seen; a checkpoint in ``file`` each ``save_every`` seconds.

    Args:
        loss: of a batch with pixels in [0, 1]; its noise comes from the generator it is given.
        watch: called after each step, for bars and curves.
        prepare: what is done to a batch before the loss sees it, such as cropping.
        after: what makes ``state.average`` from the network after each step; by default
            ``averaged``.

    Raises:
        KeyboardInterrupt: at the end of the step at which it came, after a checkpoint.
    """
    saved, recent = time.monotonic(), state.recent
    with held_back() as interrupted:
        for batch in batches(len(images), plan, state.seen // plan.batch):
            source = generator(plan.seed, "step", batch.step)
            x = prepare(images[batch.ids].float() / 255, batch, source)
            recent.append(_step(state, loss, x, labels[batch.ids], source, plan))
            (after or averaged)(state, plan)
            if batch.step % 50 == 49 or state.seen >= plan.images:
                state.losses.append((state.seen, sum(recent) / len(recent)))
                recent.clear()
            stopping = interrupted()
            if stopping or time.monotonic() - saved > save_every:
                _save(state, file)
                saved = time.monotonic()
            if stopping:
                raise KeyboardInterrupt
            watch(state)
    _save(state, file)
    return state


def _save(state: State, file: Path) -> None:
    replace_file(file, lambda aside: torch.save(state.tensors(), aside))


def batches(count: int, plan: Plan, first: int = 0) -> Iterator[Batch]:
    """The steps' images: each epoch another order, its incomplete batch left out."""
    an_epoch = max(1, count // plan.batch)
    epoch, order = -1, torch.empty(0)
    for step in range(first, plan.steps):
        if step // an_epoch != epoch:
            epoch = step // an_epoch
            order = torch.randperm(count, generator=generator(plan.seed, "epoch", epoch))
        start = (step % an_epoch) * plan.batch
        ids = order[start : start + plan.batch]
        yield Batch(step, epoch, ids, step * plan.batch / plan.images)


def _step(
    state: State, loss: Loss, images: Images, labels: Labels, source: Generator, plan: Plan
) -> float:
    """Learn from one batch, where the network is; what the loss was before."""
    device = next(state.network.parameters()).device
    with _precision(plan.precision, device.type):
        value = loss(state.network, images.to(device), labels.to(device), source)
    state.optimizer.zero_grad(set_to_none=True)
    value.backward()
    if plan.clip:
        nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * plan.factor(state.seen)
    state.optimizer.step()
    state.seen += plan.batch
    return value.item()


def averaged(state: State, plan: Plan) -> None:
    """The running average that the plan asks for, or the network itself."""
    if plan.ema:
        follow(state.average, state.network, plan.batch, state.seen, plan.ema)
    else:
        state.average.load_state_dict(state.network.state_dict())


def _precision(name: str, device: str) -> AbstractContextManager[Any]:
    if name not in ("float32", "bf16", "auto"):
        raise ValueError(f"precision is {name!r}; write 'auto', 'bf16' or 'float32'")
    short = name == "bf16" or (name == "auto" and (device == "cuda" or bf16_is_fast()))
    return torch.autocast(device, torch.bfloat16) if short else nullcontext()


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is 12 times slower.

    Measured with a U-Net on a processor that has AVX2 only.
    """
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
