"""One training loop for every network: batches, rates, averages, and checkpoints that resume.

Step ``k`` draws its batch and its noise from ``Stream(seed, ..., k)``: nothing about the random
state has to be remembered, and a run that was stopped goes on as if it had not been.  They are
drawn for the whole batch, so that neither the number of processes nor that of turns changes them.

The checkpoint is what counts.  What else a step leaves, such as samples, is a function of the state
after it: it is written after the step, and again where a training goes on from that step.
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
from scoreag.training.checkpoint import TrainState as TrainState
from scoreag.training.checkpoint import init_state as init_state
from scoreag.training.checkpoint import load_checkpoint as load_checkpoint
from scoreag.training.checkpoint import save_checkpoint
from scoreag.training.distributed import SINGLE_PROCESS, DistContext
from scoreag.training.divergence import DivergenceError, check_finite
from scoreag.training.ema import update_ema
from scoreag.training.execution import autocast_context
from scoreag.training.execution import bf16_is_fast as bf16_is_fast
from scoreag.training.posthoc_ema import update_power_ema
from scoreag.training.schedule import Batch as Batch
from scoreag.training.schedule import TrainingSchedule as TrainingSchedule
from scoreag.training.schedule import iter_batches as iter_batches

Loss: TypeAlias = Callable[[nn.Module, Images, Labels, Stream], Tensor]
Prepare: TypeAlias = Callable[[Images, Batch, Stream], Images]
BatchSampler: TypeAlias = Callable[[int, TrainingSchedule, int], Iterator[Batch]]
BatchTensors: TypeAlias = tuple[Tensor, ...]  # tensors with a row an image
Callback: TypeAlias = Callable[[TrainState], None]
CURVE_STEPS = 50  # steps of which the curve has the mean


@dataclass(frozen=True)
class PerSampleLoss:
    """A loss that can be cut: no row looks at another one.

    Args:
        ask: draws all that is random, for the whole batch.
        answer: the loss of each row, of all of them or of some.
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
    on_step_end: Callable[["TrainState", TrainingSchedule], None] | None = None,
    batch_sampler: BatchSampler = iter_batches,
    dist_context: DistContext = SINGLE_PROCESS,
    on_resume: Callback = lambda state: None,
) -> TrainState:
    """Train until ``plan.images`` were seen; a checkpoint in ``file`` each ``save_every`` seconds.

    Args:
        loss: of a batch with pixels in [0, 1]; its noise comes from the generator it is given.
        watch: called after each step, for bars and curves; see ``again``.
        prepare: what is done to a batch before the loss sees it, such as cropping.
        after: what makes ``state.average`` from the network after each step; by default
            ``averaged``.
        order: which images the steps see, from a given step on.
        team: the processes that share the work; with more than one piece a batch, ``loss`` must be
            ``Rowwise``.  The first process saves.
        again: called before the first step with the state that a checkpoint gave: it makes anew
            what ``watch`` leaves, for the training may have been stopped before that.

    Raises:
        Stopped: at the end of the step at which a signal came, after a checkpoint.
        Diverged: the loss ran away or is no number; the last good checkpoint is kept.
    """
    saved, kept = time.monotonic(), state.images_seen
    with defer_signals(dist_context.world_size > 1) as interrupted:
        if state.images_seen:
            on_resume(state)
        for batch in batch_sampler(len(images), schedule, state.images_seen // schedule.batch_size):
            source = Stream(schedule.seed, "step", batch.step)
            x = prepare(images[batch.indices].float() / 255, batch, source)
            value = _backward(
                state.network, loss, x, labels[batch.indices], source, schedule, dist_context
            )
            value, stopping = dist_context.all_reduce_sum(
                _collect_gradients(state.network), value, float(interrupted())
            )
            _check_divergence(partial(state.monitor.check, value), state, file)
            _optimizer_step(state, schedule)
            (on_step_end or update_averages)(state, schedule)
            _record_loss(
                state,
                value,
                batch.step % CURVE_STEPS == CURVE_STEPS - 1
                or state.images_seen >= schedule.total_images,
            )
            due = stopping or time.monotonic() - saved > checkpoint_seconds
            if due and not state.monitor.n_bad:  # no checkpoint of a loss that may be running away
                _save(state, file, dist_context)
                saved, kept = time.monotonic(), state.images_seen
            if stopping:
                raise SignalInterrupt(
                    interrupted() or signal.SIGINT, _interrupt_message(kept, schedule, file)
                )
            callback(state)
        _save(state, file, dist_context)
        if dist_context.all_reduce_sum([], float(interrupted()))[0]:
            raise SignalInterrupt(
                interrupted() or signal.SIGINT,
                _interrupt_message(state.images_seen, schedule, file),
            )
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
    """This process's share of the mean loss, whose gradient it leaves in the parameters."""
    place = next(network.parameters()).device
    network.zero_grad(set_to_none=True)
    pieces, total = dist_context.micro_batch_slices(len(images)), 0.0
    if len(pieces) * dist_context.world_size == 1:
        with autocast_context(schedule.dtype, place.type):
            value = loss(network, images.to(place), labels.to(place), source)
        value.backward()
        return value.item()
    assert isinstance(loss, PerSampleLoss), "a loss that is not Rowwise cannot be cut into pieces"
    asked = loss.prepare(images, labels, source)
    for rows in pieces:
        with autocast_context(schedule.dtype, place.type):
            answered = loss.per_sample(network, tuple(told[rows].to(place) for told in asked))
        value = answered.sum() / len(images)
        value.backward()
        total += value.item()
    return total


def _collect_gradients(network: nn.Module) -> list[Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


def _optimizer_step(state: TrainState, schedule: TrainingSchedule) -> None:
    """Go along the gradient that the parameters have."""
    if schedule.max_grad_norm:
        nn.utils.clip_grad_norm_(state.network.parameters(), schedule.max_grad_norm)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * schedule.lr_factor(
            state.images_seen
        )
    state.optimizer.step()
    state.images_seen += schedule.batch_size


def update_averages(state: TrainState, schedule: TrainingSchedule) -> None:
    """The running averages that the plan asks for, or the network itself."""
    if schedule.ema_widths:
        for average, width in zip(state.averages, schedule.ema_widths, strict=True):
            update_power_ema(
                average, state.network, state.images_seen // schedule.batch_size, width
            )
    elif schedule.ema_rampup_ratio:
        update_ema(
            state.average,
            state.network,
            schedule.batch_size,
            state.images_seen,
            schedule.ema_rampup_ratio,
        )
    else:
        state.average.load_state_dict(state.network.state_dict())


def _record_loss(state: TrainState, value: float, is_entry: bool) -> None:
    """Remember the loss of a step; at an entry of the curve, the mean of those since the last."""
    state.recent_losses.append(value)
    if is_entry:
        state.losses.append(
            (state.images_seen, sum(state.recent_losses) / len(state.recent_losses))
        )
        state.recent_losses.clear()


def _save(state: TrainState, file: Path, dist_context: DistContext) -> None:
    _check_divergence(partial(check_finite, state.network), state, file)
    if dist_context.is_main:
        save_checkpoint(state, file)


def _interrupt_message(images_saved: int, schedule: TrainingSchedule, file: Path) -> str:
    """What a signal leaves."""
    held = f"{PROGRESS_KEPT}: {file} has seen {images_saved:,} of {schedule.total_images:,} images"
    return held if images_saved else "nothing was saved yet"


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
