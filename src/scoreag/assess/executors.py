"""Who computes shards: this process, other processes of this machine, or actors of Ray.

Nothing but the description of a shard is sent, and one at a time to each worker.  A worker that is
lost is replaced, and its shard is done again.
"""

import os
import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeAlias

from scoreag.assess.experiments import Cell, ModelCache
from scoreag.assess.orphan import run_until_orphaned
from scoreag.assess.run_attack import compute_rows
from scoreag.assess.scoring import ScoredBatch
from scoreag.core.memory_errors import describe_request, is_out_of_memory

MAX_ATTEMPTS = 3  # at a shard whose worker is lost again and again


@dataclass(frozen=True, eq=False)
class Shard:
    """Some batches of a cell: a unit of work."""

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
    """Computes one shard at a time."""

    def submit(self, shard: Shard) -> None: ...

    def outcome(self) -> Outcome:
        """Of the shard submitted last; raises ``WorkerLost`` where the worker is gone."""
        ...

    def stop(self) -> None: ...


Wait: TypeAlias = Callable[[Sequence[Any]], list[Any]]  # those of some workers that have an outcome


def compute_shard(shard: Shard, cache: ModelCache) -> Outcome:
    """A shard computed here; what goes wrong with it is its outcome."""
    try:
        return compute_rows(shard.cell, list(shard.batches), cache)
    except Exception as error:  # whatever somebody else's attack may raise
        if is_out_of_memory(error):
            message = (
                f"memory ran out{describe_request(error)}; write a smaller batch_size in the plan "
                f"(now {shard.cell.batch_size}), --max-memory of purifiers, or fewer --workers"
            )
        else:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            message = kind + (" ".join(str(error).split()) or type(error).__name__)
        return Failure(message, traceback.format_exc())


def run_serial(shards: Iterable[Shard], cache: ModelCache) -> Iterator[tuple[Shard, Outcome]]:
    """One after the other, in this process."""
    for shard in shards:
        yield shard, compute_shard(shard, cache)


def dispatch(
    shards: Iterable[Shard], spawn: Callable[[], Worker], wait: Wait, n_workers: int
) -> Iterator[tuple[Shard, Outcome]]:
    """Each shard with its outcome, in the order in which they are done.

    A shard is taken from ``shards`` only when a worker is free.
    """
    pending, again = iter(shards), deque[Shard]()
    attempts: dict[Shard, int] = {}
    free: list[Worker] = [spawn() for _ in range(n_workers)]
    busy: dict[Worker, Shard] = {}
    try:
        while True:
            while free and (shard := again.popleft() if again else next(pending, None)):
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
                    attempts[shard] = attempts.get(shard, 0) + 1
                    if attempts[shard] < MAX_ATTEMPTS:
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
    """In processes of this machine."""
    return dispatch(shards, partial(LocalWorker, fresh_cache(cache)), _ready_workers, n_workers)


def fresh_cache(cache: ModelCache) -> ModelCache:
    """The same cache with nothing loaded: words travel, models do not."""
    return replace(cache, entries={}, progress=False)


class LocalWorker:
    """A process that computes what it is sent, until nothing more can come."""

    def __init__(self, cache: ModelCache) -> None:
        context = get_context("spawn")
        self.pipe, remote = context.Pipe()
        args = (pickle.dumps((_serve, (cache,))), remote)
        self.process = context.Process(target=run_until_orphaned, args=args, daemon=True)
        self.process.start()
        remote.close()  # else the end of the process would not be seen here

    def submit(self, shard: Shard) -> None:
        with suppress(OSError):  # it is gone, which its outcome says
            self.pipe.send(shard)

    def outcome(self) -> Outcome:
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            raise WorkerLost(f"exit code {self.process.exitcode}") from error
        return outcome

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _ready_workers(workers: Sequence[LocalWorker]) -> list[LocalWorker]:
    pipes = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in pipes]


def _serve(pipe: Connection, cache: ModelCache) -> None:
    """Compute what comes, until nothing more can."""
    with suppress(EOFError, OSError):
        while True:
            pipe.send(compute_shard(pipe.recv(), cache))


def run_on_ray(
    shards: Iterable[Shard], cache: ModelCache, n_workers: int | None, address: str
) -> Iterator[tuple[Shard, Outcome]]:
    """On a cluster of Ray, or, where the address is "local", on one that is started here.

    Args:
        n_workers: actors; None: as many as the cluster has processors.

    Raises:
        ValueError: ray is not installed, or no cluster answers.
    """
    ray = _connect(address)
    try:
        n_workers = n_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        gpus = 1 / n_workers if cache.torch_device.type == "cuda" else 0
        actor = ray.remote(num_cpus=1, num_gpus=gpus)(Actor)
        spawn = partial(RayWorker, ray, actor, fresh_cache(cache))
        yield from dispatch(shards, spawn, partial(_ready_on_ray, ray), n_workers)
    finally:
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError("--ray needs the package ray: pip install 'scoreag[ray]'") from error
    try:
        where = {} if address == "local" else {"address": address}
        ray.init(**where, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"no cluster of Ray at {address!r} ({reason}); write --ray auto, local, or HOST:PORT"
        ) from error
    return ray


class Actor:
    """A worker's far end; it finds modules and files where the one who sent it did."""

    def __init__(self, cache: ModelCache, folder: str, paths: Sequence[str]) -> None:
        self.cache = cache
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(path for path in paths if path not in sys.path)

    def compute(self, shard: Shard) -> Outcome:
        return compute_shard(shard, self.cache)


class RayWorker:
    """An actor of Ray, with the shard that it works on."""

    def __init__(self, ray: Any, actor: Any, cache: ModelCache) -> None:
        self.ray, self.handle = ray, actor.remote(cache, os.getcwd(), sys.path)
        self.pending: Any = None

    def submit(self, shard: Shard) -> None:
        self.pending = self.handle.compute.remote(shard)

    def outcome(self) -> Outcome:
        try:
            outcome: Outcome = self.ray.get(self.pending)
        except self.ray.exceptions.RayError as error:
            raise WorkerLost(type(error).__name__) from error
        return outcome

    def stop(self) -> None:
        with suppress(Exception):  # it is gone already
            self.ray.kill(self.handle)


def _ready_on_ray(ray: Any, workers: Sequence[RayWorker]) -> list[RayWorker]:
    ready, _ = ray.wait([worker.pending for worker in workers], num_returns=1)
    return [worker for worker in workers if worker.pending in ready]
