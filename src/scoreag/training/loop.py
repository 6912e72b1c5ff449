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

from scoreag.core.noise import Stream
from scoreag.core.types import Images, Labels, PerImage
from scoreag.stopping import KEPT, Stopped
from scoreag.training.diverged import Diverged, check_finite
from scoreag.training.ema import follow
from scoreag.training.interrupt import held_back
from scoreag.training.plan import Batch as Batch
from scoreag.training.plan import Plan as Plan
from scoreag.training.plan import batches as batches
from scoreag.training.power_ema import follow_power
from scoreag.training.precision import bf16_is_fast as bf16_is_fast
from scoreag.training.precision import precision
from scoreag.training.state import State as State
from scoreag.training.state import begin as begin
from scoreag.training.state import resume as resume
from scoreag.training.state import save
from scoreag.training.team import ALONE, Team

Loss: TypeAlias = Callable[[nn.Module, Images, Labels, Stream], Tensor]
Prepare: TypeAlias = Callable[[Images, Batch, Stream], Images]
Order: TypeAlias = Callable[[int, Plan, int], Iterator[Batch]]
Rows: TypeAlias = tuple[Tensor, ...]  # tensors with a row an image
Watch: TypeAlias = Callable[[State], None]
CURVE = 50  # steps of which the curve has the mean


@dataclass(frozen=True)
class Rowwise:
    """A loss that can be cut: no row looks at another one.

    Args:
        ask: draws all that is random, for the whole batch.
        answer: the loss of each row, of all of them or of some.
    """

    ask: Callable[[Images, Labels, Stream], Rows]
    answer: Callable[[nn.Module, Rows], PerImage]

    def __call__(
        self, network: nn.Module, images: Images, labels: Labels, source: Stream
    ) -> Tensor:
        return self.answer(network, self.ask(images, labels, source)).mean()


def fit(
    state: State,
    loss: Loss,
    images: UInt8[Tensor, "count channel height width"],
    labels: Labels,
    plan: Plan,
    file: Path,
    save_every: float = 60.0,
    watch: Watch = lambda state: None,
    prepare: Prepare = lambda images, batch, source: images,
    after: Callable[["State", Plan], None] | None = None,
    order: Order = batches,
    team: Team = ALONE,
    again: Watch = lambda state: None,
) -> State:
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
    saved, kept = time.monotonic(), state.seen
    with held_back(team.size > 1) as interrupted:
        if state.seen:
            again(state)
        for batch in order(len(images), plan, state.seen // plan.batch):
            source = Stream(plan.seed, "step", batch.step)
            x = prepare(images[batch.ids].float() / 255, batch, source)
            value = _gradient(state.network, loss, x, labels[batch.ids], source, plan, team)
            value, stopping = team.sum(_gradients(state.network), value, float(interrupted()))
            _checked(partial(state.health.check, value), state, file)
            _step(state, plan)
            (after or averaged)(state, plan)
            _enter(state, value, batch.step % CURVE == CURVE - 1 or state.seen >= plan.images)
            due = stopping or time.monotonic() - saved > save_every
            if due and not state.health.far:  # no checkpoint of a loss that may be running away
                _save(state, file, team)
                saved, kept = time.monotonic(), state.seen
            if stopping:
                raise Stopped(interrupted() or signal.SIGINT, _done(kept, plan, file))
            watch(state)
        _save(state, file, team)
        if team.sum([], float(interrupted()))[0]:
            raise Stopped(interrupted() or signal.SIGINT, _done(state.seen, plan, file))
    return state


def _gradient(
    network: nn.Module,
    loss: Loss,
    images: Images,
    labels: Labels,
    source: Stream,
    plan: Plan,
    team: Team,
) -> float:
    """This process's share of the mean loss, whose gradient it leaves in the parameters."""
    place = next(network.parameters()).device
    network.zero_grad(set_to_none=True)
    pieces, total = team.pieces(len(images)), 0.0
    if len(pieces) * team.size == 1:
        with precision(plan.precision, place.type):
            value = loss(network, images.to(place), labels.to(place), source)
        value.backward()
        return value.item()
    assert isinstance(loss, Rowwise), "a loss that is not Rowwise cannot be cut into pieces"
    asked = loss.ask(images, labels, source)
    for rows in pieces:
        with precision(plan.precision, place.type):
            answered = loss.answer(network, tuple(told[rows].to(place) for told in asked))
        value = answered.sum() / len(images)
        value.backward()
        total += value.item()
    return total


def _gradients(network: nn.Module) -> list[Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


def _step(state: State, plan: Plan) -> None:
    """Go along the gradient that the parameters have."""
    if plan.clip:
        nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = group.setdefault("full_rate", group["lr"]) * plan.factor(state.seen)
    state.optimizer.step()
    state.seen += plan.batch


def averaged(state: State, plan: Plan) -> None:
    """The running averages that the plan asks for, or the network itself."""
    if plan.widths:
        for average, width in zip(state.averages, plan.widths, strict=True):
            follow_power(average, state.network, state.seen // plan.batch, width)
    elif plan.ema:
        follow(state.average, state.network, plan.batch, state.seen, plan.ema)
    else:
        state.average.load_state_dict(state.network.state_dict())


def _enter(state: State, value: float, entry: bool) -> None:
    """Remember the loss of a step; at an entry of the curve, the mean of those since the last."""
    state.recent.append(value)
    if entry:
        state.losses.append((state.seen, sum(state.recent) / len(state.recent)))
        state.recent.clear()


def _save(state: State, file: Path, team: Team) -> None:
    _checked(partial(check_finite, state.network), state, file)
    if team.first:
        save(state, file)


def _done(kept: int, plan: Plan, file: Path) -> str:
    """What a signal leaves."""
    held = f"{KEPT}: {file} has seen {kept:,} of {plan.images:,} images"
    return held if kept else "nothing was saved yet"


def _checked(check: Callable[[], None], state: State, file: Path) -> None:
    """Say, where a check fails, when that was and what is left."""
    try:
        check()
    except Diverged as error:
        left = f"{file} is the last good checkpoint" if file.exists() else "nothing was saved yet"
        raise Diverged(
            f"{error}, after {state.seen} images: the training diverged, and {left}; "
            "train afresh with a lower --rate, or with --precision float32"
        ) from None
