"""Shards on a cluster of Ray: the only place that knows of it."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from scoreag.assess.kit import Kit
from scoreag.assess.workers import Lost, Outcome, Shard, afresh, done, spread


def on_ray(
    shards: Iterable[Shard], kit: Kit, count: int | None, address: str
) -> Iterator[tuple[Shard, Outcome]]:
    """On a cluster of Ray, or, where the address is "local", on one that is started here.

    Args:
        count: of actors; None: as many as the cluster has processors.

    Raises:
        ValueError: ray is not installed, or no cluster answers.
    """
    ray = _ray(address)
    try:
        count = count or max(1, int(ray.cluster_resources().get("CPU", 1)))
        needs = {"num_cpus": 1, "num_gpus": 1 / count if kit.place.type == "cuda" else 0}
        hire = partial(RayWorker, ray, ray.remote(**needs)(Actor), afresh(kit))
        yield from spread(shards, hire, partial(_ready_on_ray, ray), count)
    finally:
        ray.shutdown()


def _ray(address: str) -> Any:
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

    def __init__(self, kit: Kit, folder: str, paths: Sequence[str]) -> None:
        self.kit = kit
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(path for path in paths if path not in sys.path)

    def compute(self, shard: Shard) -> Outcome:
        return done(shard, self.kit)


class RayWorker:
    """An actor of Ray, with the shard that it works on."""

    def __init__(self, ray: Any, actor: Any, kit: Kit) -> None:
        self.ray, self.handle = ray, actor.remote(kit, os.getcwd(), sys.path)
        self.coming: Any = None

    def begin(self, shard: Shard) -> None:
        self.coming = self.handle.compute.remote(shard)

    def outcome(self) -> Outcome:
        try:
            found: Outcome = self.ray.get(self.coming)
        except self.ray.exceptions.RayError as error:
            raise Lost(type(error).__name__) from error
        return found

    def end(self) -> None:
        with suppress(Exception):  # it is gone already
            self.ray.kill(self.handle)


def _ready_on_ray(ray: Any, workers: Sequence[RayWorker]) -> list[RayWorker]:
    ready, _ = ray.wait([worker.coming for worker in workers], num_returns=1)
    return [worker for worker in workers if worker.coming in ready]
