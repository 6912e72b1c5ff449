"""One training loop for every network: batches, learning rates, averages, checkpoints that resume.

Step ``k`` takes its batch and its noise from ``Stream(seed, ..., k)``: there is no random state to
save, and an interrupted training ends exactly like an uninterrupted one.  The noise is that of the
whole batch, so neither the number of processes nor gradient accumulation changes it.

All other files, such as samples, are a function of the state after a step: they are written after
the checkpoint, and again when the training resumes from that step.
"""

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.core.rng import Stream
from scoreag.core.signals import PROGRESS_KEPT, SignalInterrupt, defer_signals
from scoreag.core.types import Images, Labels
from scoreag.training.checkpoint import DivergenceError, TrainState, check_finite, save_checkpoint
from scoreag.training.execution import SINGLE_PROCESS, DistContext, autocast_context
from scoreag.training.losses import Loss, PerSampleLoss
from scoreag.training.optimization import update_averages
from scoreag.training.outputs import Callback, TrainingLog
from scoreag.training.schedule import Batch, TrainingSchedule, iter_batches

Prepare: TypeAlias = Callable[[Images, Batch, Stream], Images]
BatchSampler: TypeAlias = Callable[[int, TrainingSchedule, int], Iterator[Batch]]
CURVE_STEPS = 50  # whose mean is an entry of the loss curve


def fit(
    state: TrainState,
    loss: Loss,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    schedule: TrainingSchedule,
    file: Path,
    checkpoint_seconds: float = 60.0,
    callback: Callback = lambda state: None,
    log: TrainingLog | None = None,
    prepare: Prepare = lambda images, batch, source: images,
    on_step_end: Callable[[TrainState, TrainingSchedule], None] | None = None,
    batch_sampler: BatchSampler = iter_batches,
    dist_context: DistContext = SINGLE_PROCESS,
) -> TrainState:
    """Train until the schedule's end; a checkpoint in ``file`` each ``checkpoint_seconds``.

    Args:
        loss: of a batch with pixels in [0, 1]; its noise comes from the given stream.
        callback: called after each step.
        log: writes the other outputs, after each step and on resuming.
        prepare: changes a batch before the loss, e.g. crops the images.
        on_step_end: updates ``state.average`` after each step; by default ``update_averages``.
        batch_sampler: the batches of the steps, from a given step on.
        dist_context: if it splits a batch, ``loss`` must be a ``PerSampleLoss``.

    Raises:
        SignalInterrupt: after a signal, at the end of its step, which is saved.
        DivergenceError: the loss diverged or is not finite; the last good checkpoint is kept.
    """
    saved_at, images_saved = time.monotonic(), state.images_seen
    if log:
        log.open(state)
    with defer_signals(dist_context.world_size > 1) as interrupted:
        if log and state.images_seen:
            log.write_outputs(state, keep_samples=True)
        for batch in batch_sampler(len(images), schedule, state.images_seen // schedule.batch_size):
            source = Stream(schedule.seed, "step", batch.step)
            x, y = images[batch.indices].float() / 255, labels[batch.indices]
            x = prepare(x, batch, source)
            value = _backward(state.network, loss, x, y, source, schedule, dist_context)
            gradients = [p.grad for p in state.network.parameters() if p.grad is not None]
            value, stopping = dist_context.all_reduce_sum(gradients, value, float(interrupted()))
            _check_divergence(partial(state.monitor.check, value), state, file)
            _optimizer_step(state, schedule)
            (on_step_end or update_averages)(state, schedule)
            last = schedule.is_last(state.images_seen)
            _record_loss(state, value, batch.step % CURVE_STEPS == CURVE_STEPS - 1 or last)
            due = stopping or time.monotonic() - saved_at > checkpoint_seconds
            if due and not state.monitor.n_bad:  # the loss may be about to diverge
                _save(state, file, dist_context)
                saved_at, images_saved = time.monotonic(), state.images_seen
            if stopping:
                raise _interruption(interrupted(), images_saved, schedule, file)
            callback(state)
            if log:
                log.on_step(state)
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
    """Set the gradients of this process's part of the mean loss; that part."""
    device = next(network.parameters()).device
    network.zero_grad(set_to_none=True)
    pieces, total = dist_context.micro_batch_slices(len(images)), 0.0
    if len(pieces) * dist_context.world_size == 1:
        with autocast_context(schedule.dtype, device.type):
            value = loss(network, images.to(device), labels.to(device), source)
        value.backward()
        return value.item()
    assert isinstance(loss, PerSampleLoss), "only a PerSampleLoss can be split"
    inputs = loss.prepare(images, labels, source)
    for rows in pieces:
        with autocast_context(schedule.dtype, device.type):
            losses = loss.per_sample(network, tuple(part[rows].to(device) for part in inputs))
        value = losses.sum() / len(images)
        value.backward()
        total += value.item()
    return total


def _optimizer_step(state: TrainState, schedule: TrainingSchedule) -> None:
    """Update the network from its gradients."""
    if schedule.max_grad_norm:
        nn.utils.clip_grad_norm_(state.network.parameters(), schedule.max_grad_norm)
    factor = schedule.lr_factor(state.images_seen)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * factor
    state.optimizer.step()
    state.images_seen += schedule.batch_size


def _record_loss(state: TrainState, value: float, is_entry: bool) -> None:
    """Record the loss of a step; for an entry of the curve, the mean since the last entry."""
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
    """The exception for a signal to this process or to another one."""
    message = "nothing was saved yet"
    if images_saved:
        of_all = f"{images_saved:,} of {schedule.total_images:,}"
        message = f"{PROGRESS_KEPT}: {file} has seen {of_all} images"
    return SignalInterrupt(number or signal.SIGINT, message)


def _check_divergence(check: Callable[[], None], state: TrainState, file: Path) -> None:
    """Run a check; its error gets the time, the last checkpoint and the remedy."""
    try:
        check()
    except DivergenceError as error:
        left = f"{file} is the last good checkpoint" if file.exists() else "nothing was saved yet"
        raise DivergenceError(
            f"{error}, after {state.images_seen} images: the training diverged, and {left}; "
            "train from scratch with a lower --lr, or with --dtype float32"
        ) from None
