"""One training loop for every network: batches, learning rates, averages, checkpoints that resume.

Step ``k`` takes its batch and its noise from ``Stream(seed, ..., k)``: there is no random state to
save, and an interrupted training ends exactly like an uninterrupted one.  The noise is that of the
whole batch, so neither the number of processes nor gradient accumulation changes it.

Images stay in 8 bits on the device of the network, where batches are cut out of them and changed.
On a GPU the losses of up to ``SYNC_STEPS`` steps are read at once.

All other files, such as samples, are a function of the state after a step: they are written after
the checkpoint, and again when the training resumes from that step.
"""

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from scoreag.core.devices import send
from scoreag.core.rng import Stream
from scoreag.core.signals import PROGRESS_KEPT, SignalInterrupt, defer_signals
from scoreag.core.types import Images, Targets
from scoreag.training.checkpoint import DivergenceError, TrainState, check_finite, save_checkpoint
from scoreag.training.execution import SINGLE_PROCESS, DistContext, autocast_context
from scoreag.training.losses import Loss, PerSampleLoss
from scoreag.training.optimization import update_averages
from scoreag.training.outputs import Callback, TrainingLog
from scoreag.training.schedule import Batch, Pixels, TrainingSchedule, iter_batches

Prepare: TypeAlias = Callable[[Images, Batch, Stream], Images]
BatchSampler: TypeAlias = Callable[[int, TrainingSchedule, int], Iterator[Batch]]
CURVE_STEPS = 50  # whose mean is an entry of the loss curve
SYNC_STEPS = 25  # whose losses a GPU computes before the first of them is looked at


def fit(
    state: TrainState,
    loss: Loss,
    images: UInt8[Tensor, "count channel height width"],
    labels: Targets,
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
    device = next(state.network.parameters()).device
    images, labels = images.to(device), labels.to(device)
    sync_steps = steps_between_reads(device, dist_context)
    unread: list[Tensor] = []  # losses of the last steps
    with defer_signals(dist_context.world_size > 1) as interrupted:
        observers = [callback, *_open_log(log, state)]
        for batch in batch_sampler(len(images), schedule, state.images_seen // schedule.batch_size):
            value, stopping = _step_gradients(
                state.network, loss, images, labels, batch, prepare, schedule, dist_context,
                interrupted,
            )  # fmt: skip
            unread.append(value)
            due = stopping or time.monotonic() - saved_at > checkpoint_seconds
            is_entry = _is_curve_entry(batch, state, schedule)
            if due or is_entry or len(unread) >= sync_steps:
                _read_losses(unread, state, schedule.batch_size, file)
            _optimizer_step(state, schedule)
            (on_step_end or update_averages)(state, schedule)
            if is_entry:
                _record_entry(state)
            if due and not state.monitor.n_bad:  # the loss may be about to diverge
                _save(state, file, dist_context)
                saved_at, images_saved = time.monotonic(), state.images_seen
            if stopping:
                raise _interruption(interrupted(), images_saved, schedule, file)
            for observe in observers:
                observe(state)
        _save(state, file, dist_context)
        if dist_context.all_reduce_sum([], float(interrupted()))[0]:
            raise _interruption(interrupted(), state.images_seen, schedule, file)
    return state


def steps_between_reads(device: torch.device, dist_context: DistContext) -> int:
    """For how many steps the losses are left on the device."""
    return SYNC_STEPS if device.type == "cuda" and dist_context.world_size == 1 else 1


def _open_log(log: TrainingLog | None, state: TrainState) -> list[Callback]:
    """What a log does after each step."""
    if log is None:
        return []
    log.open(state)
    return [log.on_step]


def _is_curve_entry(batch: Batch, state: TrainState, schedule: TrainingSchedule) -> bool:
    """Whether the loss curve has an entry after this step."""
    last = schedule.is_last(state.images_seen + schedule.batch_size)
    return last or batch.step % CURVE_STEPS == CURVE_STEPS - 1


def _step_gradients(
    network: nn.Module,
    loss: Loss,
    images: Pixels,
    labels: Targets,
    batch: Batch,
    prepare: Prepare,
    schedule: TrainingSchedule,
    dist_context: DistContext,
    interrupted: Callable[[], int],
) -> tuple[Tensor, bool]:
    """Set the gradients of a step; its loss, which is not read, and whether to stop after it."""
    source, indices = Stream(schedule.seed, "step", batch.step), send(batch.indices, images.device)
    x = prepare(images[indices].float() / 255, batch, source)
    value = _backward(network, loss, x, labels[indices], source, schedule, dist_context)
    stop = float(interrupted())
    if dist_context.world_size > 1:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        total, stop = dist_context.all_reduce_sum(gradients, value.item(), stop)
        value = torch.tensor(total, dtype=torch.float64)
    return value, bool(stop)


def _read_losses(unread: list[Tensor], state: TrainState, batch_size: int, file: Path) -> None:
    """Move the losses of the last steps to the state; refuse those of a training that diverged."""
    values: list[float] = torch.stack(unread).tolist()
    unread.clear()
    for steps_ago, value in zip(reversed(range(len(values))), values, strict=True):
        seen = state.images_seen - steps_ago * batch_size
        _check_divergence(partial(state.monitor.check, value), seen, file)
    state.recent_losses += values


def _backward(
    network: nn.Module,
    loss: Loss,
    images: Images,
    labels: Targets,
    source: Stream,
    schedule: TrainingSchedule,
    dist_context: DistContext,
) -> Tensor:
    """Set the gradients of this process's part of the mean loss; that part, which is not read."""
    device = next(network.parameters()).device
    network.zero_grad(set_to_none=True)
    pieces = dist_context.micro_batch_slices(len(images))
    if len(pieces) * dist_context.world_size == 1:
        with autocast_context(schedule.dtype, device.type):
            value = loss(network, images.to(device), labels.to(device), source)
        value.backward()
        return value.detach()
    assert isinstance(loss, PerSampleLoss), "only a PerSampleLoss can be split"
    inputs = loss.prepare(images, labels, source)
    parts = []
    for rows in pieces:
        with autocast_context(schedule.dtype, device.type):
            losses = loss.per_sample(network, tuple(part[rows].to(device) for part in inputs))
        value = losses.sum() / len(images)
        value.backward()
        parts.append(value.detach())
    return torch.stack(parts).double().sum()


def _optimizer_step(state: TrainState, schedule: TrainingSchedule) -> None:
    """Update the network from its gradients."""
    if schedule.max_grad_norm:
        nn.utils.clip_grad_norm_(state.network.parameters(), schedule.max_grad_norm)
    factor = schedule.lr_factor(state.images_seen)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * factor
    state.optimizer.step()
    state.images_seen += schedule.batch_size


def _record_entry(state: TrainState) -> None:
    """An entry of the loss curve: the mean since the last entry."""
    mean = sum(state.recent_losses) / len(state.recent_losses)
    state.losses.append((state.images_seen, mean))
    state.recent_losses.clear()


def _save(state: TrainState, file: Path, dist_context: DistContext) -> None:
    _check_divergence(partial(check_finite, state.network), state.images_seen, file)
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


def _check_divergence(check: Callable[[], None], images_seen: int, file: Path) -> None:
    """Run a check; its error gets the time, the last checkpoint and the remedy."""
    try:
        check()
    except DivergenceError as error:
        left = f"{file} is the last good checkpoint" if file.exists() else "nothing was saved yet"
        raise DivergenceError(
            f"{error}, after {images_seen} images: the training diverged, and {left}; "
            "train from scratch with a lower --lr, or with --dtype float32"
        ) from None
