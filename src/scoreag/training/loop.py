"""One training loop for every network: batches, learning rates, averages, checkpoints that resume.

Step ``k`` draws its batch and its noise from ``Stream(seed, ..., k)``: no random state has to be
remembered, and a training that was stopped ends as if it had not been.  They are drawn for the
whole batch, so neither the number of processes nor gradient accumulation changes them.

The checkpoint is what counts.  What else a step leaves, such as samples, is a function of the state
after it: it is written after the step, and again where a training resumes from that step.
"""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.core.rng import Stream
from scoreag.core.signals import PROGRESS_KEPT, SignalInterrupt, defer_signals
from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.training.checkpoint import DivergenceError, TrainState, check_finite, save_checkpoint
from scoreag.training.ema import update_averages
from scoreag.training.execution import SINGLE_PROCESS, DistContext, autocast_context
from scoreag.training.schedule import Batch, TrainingSchedule, iter_batches

Loss: TypeAlias = Callable[[nn.Module, Images, Labels, Stream], Tensor]
Prepare: TypeAlias = Callable[[Images, Batch, Stream], Images]
BatchSampler: TypeAlias = Callable[[int, TrainingSchedule, int], Iterator[Batch]]
BatchTensors: TypeAlias = tuple[Tensor, ...]  # tensors with a row an image
Callback: TypeAlias = Callable[[TrainState], None]
CURVE_STEPS = 50  # steps of which the curve has the mean


@dataclass(frozen=True)
class PerSampleLoss:
    """A loss that can be cut: no row depends on another one.

    Args:
        prepare: draws all that is random, for the whole batch.
        per_sample: the loss of each row, of all of them or of some.
    """

    prepare: Callable[[Images, Labels, Stream], BatchTensors]
    per_sample: Callable[[nn.Module, BatchTensors], BatchScalar]

    def __call__(
        self, network: nn.Module, images: Images, labels: Labels, source: Stream
    ) -> Tensor:
        return self.per_sample(network, self.prepare(images, labels, source)).mean()


def fit(
    state: TrainState,
    loss: Loss,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    schedule: TrainingSchedule,
    file: Path,
    checkpoint_seconds: float = 60.0,
    callback: Callback = lambda state: None,
    prepare: Prepare = lambda images, batch, source: images,
    on_step_end: Callable[[TrainState, TrainingSchedule], None] | None = None,
    batch_sampler: BatchSampler = iter_batches,
    dist_context: DistContext = SINGLE_PROCESS,
    on_resume: Callback = lambda state: None,
) -> TrainState:
    """Train until the schedule's end; a checkpoint in ``file`` each ``checkpoint_seconds``.

    Args:
        loss: of a batch with pixels in [0, 1]; its noise comes from the stream that it is given.
        callback: called after each step, for bars and curves; see ``on_resume``.
        prepare: what is done to a batch before the loss, such as cropping.
        on_step_end: updates ``state.average`` after each step; by default ``update_averages``.
        batch_sampler: which images the steps see, from a given step on.
        dist_context: with more than one piece a batch, ``loss`` must be a ``PerSampleLoss``.
        on_resume: called before the first step with the state of a checkpoint: it makes anew what
            ``callback`` leaves, for the training may have been stopped before that.

    Raises:
        SignalInterrupt: at the end of the step at which a signal came, after a checkpoint.
        DivergenceError: the loss ran away or is not finite; the last good checkpoint is kept.
    """
    saved_at, images_saved = time.monotonic(), state.images_seen
    with defer_signals(dist_context.world_size > 1) as interrupted:
        if state.images_seen:
            on_resume(state)
        for batch in batch_sampler(len(images), schedule, state.images_seen // schedule.batch_size):
            source = Stream(schedule.seed, "step", batch.step)
            x, y = images[batch.indices].float() / 255, labels[batch.indices]
            x = prepare(x, batch, source)
            value = _backward(state.network, loss, x, y, source, schedule, dist_context)
            value, stopping = dist_context.all_reduce_sum(
                _collect_gradients(state.network), value, float(interrupted())
            )
            _check_divergence(partial(state.monitor.check, value), state, file)
            _optimizer_step(state, schedule)
            (on_step_end or update_averages)(state, schedule)
            last = schedule.is_last(state.images_seen)
            _record_loss(state, value, batch.step % CURVE_STEPS == CURVE_STEPS - 1 or last)
            due = stopping or time.monotonic() - saved_at > checkpoint_seconds
            if due and not state.monitor.n_bad:  # no checkpoint of a loss that may be running away
                _save(state, file, dist_context)
                saved_at, images_saved = time.monotonic(), state.images_seen
            if stopping:
                raise _interruption(interrupted(), images_saved, schedule, file)
            callback(state)
        _save(state, file, dist_context)
        if dist_context.all_reduce_sum([], float(interrupted()))[0]:
            raise _interruption(interrupted(), state.images_seen, schedule, file)
    return state


def _backward(
    network: nn.Module,
    loss: Loss,
    images: Images,
    labels: Labels,
    source: Stream,
    schedule: TrainingSchedule,
    dist_context: DistContext,
) -> float:
    """This process's part of the mean loss, whose gradient it leaves in the parameters."""
    device = next(network.parameters()).device
    network.zero_grad(set_to_none=True)
    pieces, total = dist_context.micro_batch_slices(len(images)), 0.0
    if len(pieces) * dist_context.world_size == 1:
        with autocast_context(schedule.dtype, device.type):
            value = loss(network, images.to(device), labels.to(device), source)
        value.backward()
        return value.item()
    assert isinstance(loss, PerSampleLoss), "a loss that is no PerSampleLoss cannot be cut"
    inputs = loss.prepare(images, labels, source)
    for rows in pieces:
        with autocast_context(schedule.dtype, device.type):
            losses = loss.per_sample(network, tuple(part[rows].to(device) for part in inputs))
        value = losses.sum() / len(images)
        value.backward()
        total += value.item()
    return total


def _collect_gradients(network: nn.Module) -> list[Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


def _optimizer_step(state: TrainState, schedule: TrainingSchedule) -> None:
    """Go along the gradient that the parameters have."""
    if schedule.max_grad_norm:
        nn.utils.clip_grad_norm_(state.network.parameters(), schedule.max_grad_norm)
    factor = schedule.lr_factor(state.images_seen)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * factor
    state.optimizer.step()
    state.images_seen += schedule.batch_size


def _record_loss(state: TrainState, value: float, is_entry: bool) -> None:
    """Note the loss of a step; at an entry of the curve, the mean of those since the last one."""
    state.recent_losses.append(value)
    if is_entry:
        mean = sum(state.recent_losses) / len(state.recent_losses)
        state.losses.append((state.images_seen, mean))
        state.recent_losses.clear()


def _save(state: TrainState, file: Path, dist_context: DistContext) -> None:
    _check_divergence(partial(check_finite, state.network), state, file)
    if dist_context.is_main:
        save_checkpoint(state, file)


def _interruption(
    number: int, images_saved: int, schedule: TrainingSchedule, file: Path
) -> SignalInterrupt:
    """By a signal, of this process or of another one, with what it leaves."""
    message = "nothing was saved yet"
    if images_saved:
        of_all = f"{images_saved:,} of {schedule.total_images:,}"
        message = f"{PROGRESS_KEPT}: {file} has seen {of_all} images"
    return SignalInterrupt(number or signal.SIGINT, message)


def _check_divergence(check: Callable[[], None], state: TrainState, file: Path) -> None:
    """Say, where a check fails, when that was and what is left."""
    try:
        check()
    except DivergenceError as error:
        left = f"{file} is the last good checkpoint" if file.exists() else "nothing was saved yet"
        raise DivergenceError(
            f"{error}, after {state.images_seen} images: the training diverged, and {left}; "
            "train afresh with a lower --lr, or with --dtype float32"
        ) from None
