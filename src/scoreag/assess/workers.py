"""Who computes shards: this process or others, which keep models loaded; Ray is in ray_workers.

Nothing but the description of a shard is sent, and one at a time to each: no worker has more
than it works on.  A worker that is lost is replaced, and its shard is done again.
"""

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol, TypeAlias

from scoreag.assess.cells import Cell
from scoreag.assess.compute import compute
from scoreag.assess.kit import Kit
from scoreag.assess.measure import Measured
from scoreag.assess.orphan import live
from scoreag.shortage import ran_out, wanted

ATTEMPTS = 3  # at a shard whose worker is lost again and again


@dataclass(frozen=True, eq=False)
class Shard:
    """Some pieces of a cell: a unit of work."""

    cell: Cell
    pieces: tuple[range, ...]


@dataclass(frozen=True)
class Failure:
    """Why a shard could not be computed, in a line, and where."""

    told: str
    trace: str = ""


Outcome: TypeAlias = Measured | Failure


class Lost(Exception):
    """A worker is gone."""


class Worker(Protocol):
    """Somebody who computes one shard at a time."""

    def begin(self, shard: Shard) -> None: ...

    def outcome(self) -> Outcome:
        """Of the shard begun last; raises ``Lost`` where the worker is gone."""
        ...

    def end(self) -> None: ...


Wait: TypeAlias = Callable[[Sequence[Any]], list[Any]]  # those of some workers that have an outcome


def done(shard: Shard, kit: Kit) -> Outcome:
    """A shard computed here; what goes wrong with it is its outcome."""
    try:
        return compute(shard.cell, list(shard.pieces), kit)
    except Exception as error:  # whatever somebody else's attack may raise
        if ran_out(error):
            told = f"memory ran out{wanted(error)}; write a smaller micro_batch in the plan (now "
            fewer = f"{shard.cell.micro_batch}), --max-memory of purifiers, or fewer --workers"
            return Failure(told + fewer, traceback.format_exc())
        reason = " ".join(str(error).split()) or type(error).__name__
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return Failure(f"{kind}{reason}", traceback.format_exc())


def here(shards: Iterable[Shard], kit: Kit) -> Iterator[tuple[Shard, Outcome]]:
    """One after the other, in this process."""
    for shard in shards:
        yield shard, done(shard, kit)


def spread(
    shards: Iterable[Shard], hire: Callable[[], Worker], wait: Wait, count: int
) -> Iterator[tuple[Shard, Outcome]]:
    """Each shard with its outcome, in the order in which they are done.

    A shard is taken from ``shards`` only when somebody is free to do it.
    """
    coming, again = iter(shards), deque[Shard]()
    tries: dict[Shard, int] = {}
    free: list[Worker] = [hire() for _ in range(count)]
    busy: dict[Worker, Shard] = {}
    try:
        while True:
            while free and (shard := again.popleft() if again else next(coming, None)):
                busy[free[-1]] = shard
                free.pop().begin(shard)
            if not busy:
                return
            for worker in wait(list(busy)):
                shard = busy.pop(worker)
                try:
                    outcome = worker.outcome()
                    free.append(worker)
                except Lost as error:
                    worker.end()
                    free.append(hire())
                    tries[shard] = tries.get(shard, 0) + 1
                    if tries[shard] < ATTEMPTS:
                        again.append(shard)
                        continue
                    outcome = Failure(f"its worker was lost {ATTEMPTS} times ({error})")
                yield shard, outcome
    finally:
        for worker in [*free, *busy]:
            worker.end()


def processes(shards: Iterable[Shard], kit: Kit, count: int) -> Iterator[tuple[Shard, Outcome]]:
    """In ``count`` processes of this machine."""
    return spread(shards, partial(LocalWorker, afresh(kit)), _ready, count)


def afresh(kit: Kit) -> Kit:
    """The same kit with nothing loaded: words travel, models do not."""
    return replace(kit, kept={}, progress=False)


class LocalWorker:
    """A process that computes what it is sent, until nothing more can come."""

    def __init__(self, kit: Kit) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        packed = pickle.dumps((_serve, (kit,)))
        self.process = context.Process(target=live, args=(packed, theirs), daemon=True)
        self.process.start()
        theirs.close()  # else the end of the process would not be seen here

    def begin(self, shard: Shard) -> None:
        with suppress(OSError):  # it is gone, which its outcome tells
            self.pipe.send(shard)

    def outcome(self) -> Outcome:
        try:
            found: Outcome = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise Lost(f"exit code {self.process.exitcode}") from error
        return found

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _ready(workers: Sequence[LocalWorker]) -> list[LocalWorker]:
    pipes = wait_for_any([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in pipes]


def _serve(pipe: Connection, kit: Kit) -> None:
    """Compute what comes, until nothing more can."""
    with suppress(EOFError, OSError):
        while True:
            pipe.send(done(pipe.recv(), kit))
