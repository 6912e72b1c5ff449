"""Shards on a cluster of Ray: the only place that knows of it."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from scoreag.assess.executors import (
    Outcome,
    Shard,
    WorkerLost,
    compute_shard,
    dispatch,
    fresh_cache,
)
from scoreag.assess.model_cache import ModelCache


def run_on_ray(
    shards: Iterable[Shard], cache: ModelCache, n_workers: int | None, address: str
) -> Iterator[tuple[Shard, Outcome]]:
    """On a cluster of Ray, or, where the address is "local", on one that is started here.

    Args:
        count: of actors; None: as many as the cluster has processors.

    Raises:
        ValueError: ray is not installed, or no cluster answers.
    """
    ray = _connect(address)
    try:
        n_workers = n_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        needs = {
            "num_cpus": 1,
            "num_gpus": 1 / n_workers if cache.torch_device.type == "cuda" else 0,
        }
        hire = partial(RayWorker, ray, ray.remote(**needs)(Actor), fresh_cache(cache))
        yield from dispatch(shards, hire, partial(_ready_on_ray, ray), n_workers)
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
            found: Outcome = self.ray.get(self.pending)
        except self.ray.exceptions.RayError as error:
            raise WorkerLost(type(error).__name__) from error
        return found

    def stop(self) -> None:
        with suppress(Exception):  # it is gone already
            self.ray.kill(self.handle)


def _ready_on_ray(ray: Any, workers: Sequence[RayWorker]) -> list[RayWorker]:
    ready, _ = ray.wait([worker.pending for worker in workers], num_returns=1)
    return [worker for worker in workers if worker.pending in ready]
