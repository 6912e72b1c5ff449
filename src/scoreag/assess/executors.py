"""Executors compute shards: in this process, in other processes of this machine, or on Ray.

Only the description of a shard is sent, one at a time to each worker.  A lost worker is replaced,
and its shard is computed again.  This module imports nothing slow: until it is loaded, a new
process outlives a killed parent.
"""

import ctypes
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from scoreag.core.allocator import keep_freed_memory
from scoreag.core.memory_errors import describe_request, is_out_of_memory
from scoreag.io.ray_tasks import MAX_RETRIES, connect_ray

if TYPE_CHECKING:
    from scoreag.assess.experiments import Cell, ModelCache
    from scoreag.assess.score_batch import ScoredBatch

MAX_ATTEMPTS = 3  # at a shard whose worker is lost
SET_PDEATHSIG = 1  # of prctl: the signal that the kernel sends when the parent ends


@dataclass(frozen=True, eq=False)
class Shard:
    """Some batches of a cell: a unit of work."""

    cell: "Cell"
    batches: tuple[range, ...]


@dataclass(frozen=True)
class Failure:
    """Why a shard could not be computed, in one line, and the traceback."""

    message: str
    trace: str = ""


Outcome: TypeAlias = "ScoredBatch | Failure"
Outcomes: TypeAlias = Iterator[tuple[Shard, Outcome]]


class WorkerLost(Exception):
    """A worker process or actor ended unexpectedly."""


class Worker(Protocol):
    """Computes one shard at a time."""

    def submit(self, shard: Shard) -> None: ...

    def outcome(self) -> Outcome:
        """The outcome of the last shard; raises ``WorkerLost`` where the worker ended."""
        ...

    def stop(self) -> None: ...


Ready: TypeAlias = Callable[[Sequence[Any]], list[Any]]  # waits; the workers with an outcome


def compute_shard(shard: Shard, cache: "ModelCache") -> Outcome:
    """Compute a shard in this process; an error is its outcome."""
    from scoreag.assess import run_attack  # slow to import

    try:
        return run_attack.compute_rows(shard.cell, list(shard.batches), cache)
    except Exception as error:  # attacks from elsewhere raise anything
        if is_out_of_memory(error):
            message = (
                f"memory ran out{describe_request(error)}; write a smaller batch_size in the plan "
                f"(now {shard.cell.batch_size}), --max-memory of purifiers, or fewer --workers"
            )
        else:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            message = kind + (" ".join(str(error).split()) or type(error).__name__)
        return Failure(message, traceback.format_exc())


def run_serial(shards: Iterable[Shard], cache: "ModelCache") -> Outcomes:
    """Compute shards one after the other, in this process."""
    for shard in shards:
        yield shard, compute_shard(shard, cache)


def dispatch(
    shards: Iterable[Shard], spawn: Callable[[], Worker], ready: Ready, n_workers: int
) -> Outcomes:
    """Each shard with its outcome, as soon as it is done.

    A shard is taken from ``shards`` only when a worker is free.
    """
    pending, retries = iter(shards), deque[Shard]()
    attempts: dict[Shard, int] = {}
    free: list[Worker] = [spawn() for _ in range(n_workers)]
    busy: dict[Worker, Shard] = {}
    try:
        while True:
            while free and (shard := retries.popleft() if retries else next(pending, None)):
                busy[free[-1]] = shard
                free.pop().submit(shard)
            if not busy:
                return
            for worker in ready(list(busy)):
                shard = busy.pop(worker)
                try:
                    outcome = worker.outcome()
                    free.append(worker)
                except WorkerLost as error:
                    worker.stop()
                    free.append(spawn())
                    attempts[shard] = attempts.get(shard, 0) + 1
                    if attempts[shard] < MAX_ATTEMPTS:
                        retries.append(shard)
                        continue
                    outcome = Failure(f"its worker was lost {MAX_ATTEMPTS} times ({error})")
                yield shard, outcome
    finally:
        for worker in [*free, *busy]:
            worker.stop()


def fresh_cache(cache: "ModelCache") -> "ModelCache":
    """The cache without its models, to be sent to a worker."""
    return replace(cache, entries={}, progress=False)


def run_in_processes(shards: Iterable[Shard], cache: "ModelCache", n_workers: int) -> Outcomes:
    """Compute shards in processes of this machine."""

    def ready(workers: Sequence[LocalWorker]) -> list[LocalWorker]:
        pipes = wait([worker.pipe for worker in workers])
        return [worker for worker in workers if worker.pipe in pipes]

    return dispatch(shards, partial(LocalWorker, fresh_cache(cache)), ready, n_workers)


class LocalWorker:
    """A process that computes the shards sent to it, until the pipe closes."""

    def __init__(self, cache: "ModelCache") -> None:
        context = get_context("spawn")
        self.pipe, remote = context.Pipe()
        args = (pickle.dumps((_serve, (cache,))), remote)
        self.process = context.Process(target=run_until_orphaned, args=args, daemon=True)
        self.process.start()
        remote.close()  # else the end of the process is not noticed here

    def submit(self, shard: Shard) -> None:
        with suppress(OSError):  # outcome() reports that it ended
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


def _serve(pipe: Connection, cache: "ModelCache") -> None:
    with suppress(EOFError, OSError):
        while True:
            pipe.send(compute_shard(pipe.recv(), cache))


def run_until_orphaned(pickled_call: bytes, *leading_args: Any) -> None:
    """Call a pickled ``(function, arguments)`` after ``leading_args``; end with the parent.

    Interrupts and hangups are left to the parent, which ends this process.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _die_with_parent()
    keep_freed_memory()
    function, arguments = pickle.loads(pickled_call)
    function(*leading_args, *arguments)


def _die_with_parent() -> None:
    """End this process with its parent: by the kernel on Linux, and by a thread that waits."""
    parent = parent_process()
    if parent is None:
        return
    threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it ended before the call
            os._exit(1)


def _exit_after(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)


def run_on_ray(
    shards: Iterable[Shard], cache: "ModelCache", n_workers: int | None, address: str
) -> Outcomes:
    """Compute shards on a Ray cluster, or, at the address "local", on one that is started here.

    Args:
        n_workers: actors; by default as many as the cluster has processors.

    Raises:
        ValueError: ray is not installed, or no cluster answers.
    """
    ray = connect_ray(address)

    def ready(workers: Sequence[RayWorker]) -> list[RayWorker]:
        done, _ = ray.wait([worker.pending for worker in workers], num_returns=1)
        return [worker for worker in workers if worker.pending in done]

    try:
        n_workers = n_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        gpus = 1 / n_workers if cache.torch_device.type == "cuda" else 0
        retries = {"max_restarts": MAX_RETRIES, "max_task_retries": MAX_RETRIES}
        actor = ray.remote(num_cpus=1, num_gpus=gpus, **retries)(Actor)
        spawn = partial(RayWorker, ray, actor, fresh_cache(cache))
        yield from dispatch(shards, spawn, ready, n_workers)
    finally:
        ray.shutdown()


class Actor:
    """The remote end of a worker, with the working folder and module paths of its parent."""

    def __init__(self, cache: "ModelCache", folder: str, paths: Sequence[str]) -> None:
        self.cache = cache
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(path for path in paths if path not in sys.path)

    def compute(self, shard: Shard) -> Outcome:
        return compute_shard(shard, self.cache)


class RayWorker:
    """An actor of Ray, with the shard that it computes."""

    def __init__(self, ray: Any, actor: Any, cache: "ModelCache") -> None:
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
