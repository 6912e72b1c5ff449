"""Tasks on a Ray cluster: small arguments there, small results back, in any order.

Ray computes the task of a lost worker or node again; after ``MAX_RETRIES`` it gives up.
"""

import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

MAX_RETRIES = 3
Key = TypeVar("Key")
_SHARED: dict[str, Any] = {}  # of a worker's process: the last shared object that it fetched


@dataclass(frozen=True)
class RayOptions:
    """Where tasks are computed.

    Args:
        address: of a cluster: ``auto``, HOST:PORT; ``local`` starts one on this machine.
        workers: tasks at a time; by default as many as the cluster has processors.
        uses_gpu: whether a task needs a GPU, of which each has an equal share.
    """

    address: str
    workers: int | None = None
    uses_gpu: bool = False


def connect_ray(address: str, workers: int | None = None) -> Any:
    """The package ray, connected to a cluster, or to one of ``workers`` processors started here.

    Raises:
        ValueError: ray is not installed, or no cluster answers.
    """
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError("--ray needs the package ray: pip install 'scoreag[ray]'") from error
    where: dict[str, Any] = {"address": address}
    if address == "local":
        where = {} if workers is None else {"num_cpus": workers}
    try:
        ray.init(**where, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except Exception as error:  # of a node that does not start it is a plain one
        reason = " ".join(str(error).split())
        raise ValueError(
            f"no cluster of Ray at {address!r} ({reason}); write --ray auto, local, or HOST:PORT"
        ) from error
    return ray


def run_on_ray(
    function: Callable[[Any, Any], Any],
    shared: Any,
    tasks: Iterable[tuple[Key, Any]],
    options: RayOptions,
) -> Iterator[tuple[Key, Any]]:
    """``function(shared, argument)`` of each (key, argument), with its key, as soon as it is done.

    ``shared`` is sent once.  Each task has one thread.  Arguments are taken from ``tasks`` when a
    worker will soon be free, so that memory does not grow with their number.

    Raises:
        ValueError: no cluster, or ``shared`` cannot be sent.
        ConnectionError: a worker was lost more than ``MAX_RETRIES`` times.
        Exception: what ``function`` raised.
    """
    ray = connect_ray(options.address, options.workers)
    try:
        workers = options.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        gpus = ray.cluster_resources().get("GPU", 0) / workers if options.uses_gpu else 0
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_RETRIES)(_run_task)
        place = (os.getcwd(), [*sys.path])
        reference = _share(ray, (function, shared))
        queue = iter(tasks)
        pending: dict[Any, Key] = {}
        queued = workers if options.address != "local" else 2 * workers  # Ray starts no more there
        while True:
            while len(pending) < queued and (task := next(queue, None)) is not None:
                key, argument = task
                pending[remote.remote(place, [reference], argument)] = key
            if not pending:
                return
            for done in ray.wait([*pending], num_returns=1)[0]:
                yield pending.pop(done), _fetch(ray, done)
    finally:
        ray.shutdown()


def _share(ray: Any, value: Any) -> Any:
    try:
        return ray.put(value)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the models cannot be sent to the workers of Ray ({reason:.200}); leave out --ray"
        ) from error


def _fetch(ray: Any, reference: Any) -> Any:
    """The result of a task; its own error, without that of Ray around it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ModuleNotFoundError):
            raise ValueError(
                f"the workers of Ray have no module {error.cause.name!r}; install it there, or "
                "leave out --ray"
            ) from error
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ConnectionError(
            f"a worker of Ray was lost more than {MAX_RETRIES} times ({type(error).__name__}): "
            "it may lack memory; give a smaller --batch-size or fewer --workers"
        ) from error


def _run_task(place: tuple[str, list[str]], references: list[Any], argument: Any) -> Any:
    """Run in a worker: fetch the shared object once, and call the function on one thread."""
    import ray
    import torch

    name = references[0].hex()
    if name not in _SHARED:
        torch.set_num_threads(1)
        folder, paths = place
        with suppress(OSError):
            os.chdir(folder)
        sys.path.extend(path for path in paths if path not in sys.path)
        _SHARED.clear()
        _SHARED[name] = ray.get(references[0])
    function, shared = _SHARED[name]
    return function(shared, argument)
