"""Who computes shards: this process or others, which keep models loaded; Ray is in ray_executor.

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

from scoreag.assess.experiments import Cell
from scoreag.assess.model_cache import ModelCache
from scoreag.assess.orphan import run_until_orphaned
from scoreag.assess.run_attack import compute_rows
from scoreag.assess.scoring import ScoredBatch
from scoreag.core.memory_errors import describe_request, is_out_of_memory

MAX_ATTEMPTS = 3  # at a shard whose worker is lost again and again


@dataclass(frozen=True, eq=False)
class Shard:
    """Some pieces of a cell: a unit of work."""

    cell: Cell
    batches: tuple[range, ...]


@dataclass(frozen=True)
class Failure:
    """Why a shard could not be computed, in a line, and where."""

    message: str
    trace: str = ""


Outcome: TypeAlias = ScoredBatch | Failure


class WorkerLost(Exception):
    """A worker is gone."""


class Worker(Protocol):
    """Somebody who computes one shard at a time."""

    def submit(self, shard: Shard) -> None: ...

    def outcome(self) -> Outcome:
        """Of the shard begun last; raises ``Lost`` where the worker is gone."""
        ...

    def stop(self) -> None: ...


Wait: TypeAlias = Callable[[Sequence[Any]], list[Any]]  # those of some workers that have an outcome


def compute_shard(shard: Shard, cache: ModelCache) -> Outcome:
    """A shard computed here; what goes wrong with it is its outcome."""
    try:
        return compute_rows(shard.cell, list(shard.batches), cache)
    except Exception as error:  # whatever somebody else's attack may raise
        if is_out_of_memory(error):
            told = f"memory ran out{describe_request(error)}; write a smaller batch_size in the plan (now "
            fewer = f"{shard.cell.batch_size}), --max-memory of purifiers, or fewer --workers"
            return Failure(told + fewer, traceback.format_exc())
        reason = " ".join(str(error).split()) or type(error).__name__
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return Failure(f"{kind}{reason}", traceback.format_exc())


def run_serial(shards: Iterable[Shard], cache: ModelCache) -> Iterator[tuple[Shard, Outcome]]:
    """One after the other, in this process."""
    for shard in shards:
        yield shard, compute_shard(shard, cache)


def dispatch(
    shards: Iterable[Shard], spawn: Callable[[], Worker], wait: Wait, n_workers: int
) -> Iterator[tuple[Shard, Outcome]]:
    """Each shard with its outcome, in the order in which they are done.

    A shard is taken from ``shards`` only when somebody is free to do it.
    """
    coming, again = iter(shards), deque[Shard]()
    tries: dict[Shard, int] = {}
    free: list[Worker] = [spawn() for _ in range(n_workers)]
    busy: dict[Worker, Shard] = {}
    try:
        while True:
            while free and (shard := again.popleft() if again else next(coming, None)):
                busy[free[-1]] = shard
                free.pop().submit(shard)
            if not busy:
                return
            for worker in wait(list(busy)):
                shard = busy.pop(worker)
                try:
                    outcome = worker.outcome()
                    free.append(worker)
                except WorkerLost as error:
                    worker.stop()
                    free.append(spawn())
                    tries[shard] = tries.get(shard, 0) + 1
                    if tries[shard] < MAX_ATTEMPTS:
                        again.append(shard)
                        continue
                    outcome = Failure(f"its worker was lost {MAX_ATTEMPTS} times ({error})")
                yield shard, outcome
    finally:
        for worker in [*free, *busy]:
            worker.stop()


def run_in_processes(
    shards: Iterable[Shard], cache: ModelCache, n_workers: int
) -> Iterator[tuple[Shard, Outcome]]:
    """In ``count`` processes of this machine."""
    return dispatch(shards, partial(LocalWorker, fresh_cache(cache)), _ready_workers, n_workers)


def fresh_cache(cache: ModelCache) -> ModelCache:
    """The same kit with nothing loaded: words travel, models do not."""
    return replace(cache, entries={}, progress=False)


class LocalWorker:
    """A process that computes what it is sent, until nothing more can come."""

    def __init__(self, cache: ModelCache) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        packed = pickle.dumps((_serve, (cache,)))
        self.process = context.Process(
            target=run_until_orphaned, args=(packed, theirs), daemon=True
        )
        self.process.start()
        theirs.close()  # else the end of the process would not be seen here

    def submit(self, shard: Shard) -> None:
        with suppress(OSError):  # it is gone, which its outcome tells
            self.pipe.send(shard)

    def outcome(self) -> Outcome:
        try:
            found: Outcome = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise WorkerLost(f"exit code {self.process.exitcode}") from error
        return found

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _ready_workers(workers: Sequence[LocalWorker]) -> list[LocalWorker]:
    pipes = wait_for_any([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in pipes]


def _serve(pipe: Connection, cache: ModelCache) -> None:
    """Compute what comes, until nothing more can."""
    with suppress(EOFError, OSError):
        while True:
            pipe.send(compute_shard(pipe.recv(), cache))
