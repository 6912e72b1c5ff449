"""Several processes that train one network: each has its part of every batch.

A process is told its place by ``torchrun``, or by ``accelerate launch``, which sets the same
variables.  One sum over the processes a step carries the gradient, the loss and whether anyone was
interrupted; that is all there is to share, so torch.distributed is used as it is.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from scoreag.stopping import Ended

Made = TypeVar("Made")


@dataclass(frozen=True)
class Team:
    """This process's place among those that train together.

    Args:
        rank: 0 is the one that writes and speaks.
        size: how many there are.
        turns: pieces of its part that a process sees one after the other, to save memory.
    """

    rank: int = 0
    size: int = 1
    turns: int = 1

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"accumulate is {self.turns}; expected 1 or more")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def pieces(self, count: int) -> list[slice]:
        """The rows, of ``count``, that this process sees, a piece a turn."""
        bounds = [count * i // (self.size * self.turns) for i in range(self.size * self.turns + 1)]
        mine = range(self.rank * self.turns, (self.rank + 1) * self.turns)
        return [slice(bounds[i], bounds[i + 1]) for i in mine]

    def check(self, batch: int) -> None:
        """Refuse a batch that has no row for each piece."""
        if batch < (parts := self.size * self.turns):
            raise ValueError(
                f"a batch of {batch} cannot be cut into {parts} pieces, {self.turns} for each of "
                f"{self.size} processes; give fewer of either, or a larger batch"
            )

    def sum(self, tensors: Iterable[Tensor], *numbers: float) -> list[float]:
        """Add up ``tensors`` over all processes, in place, and numbers, which are returned."""
        if self.size == 1:
            return list(numbers)
        known = list(tensors)
        told = known[0].new_tensor(numbers) if known else torch.tensor(numbers)
        flat = torch.cat([*(tensor.flatten() for tensor in known), told])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise ConnectionError(
                "another process of this training ended; its message says why, and the same "
                "command goes on from the last checkpoint"
            ) from error
        *parts, told = flat.split([*(tensor.numel() for tensor in known), len(numbers)])
        for tensor, part in zip(known, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
        return told.tolist()

    def in_turn(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, then what the others do; if it fails there, all end."""
        if not self.first:
            if self.sum([], 0.0)[0]:
                raise SystemExit(1)
            return make()
        failed = 1.0
        try:
            made = make()
            failed = 0.0
        finally:
            self.sum([], failed)
        return made


ALONE = Team()


@contextmanager
def joined(device: torch.device, turns: int = 1) -> Iterator[Team]:
    """The team that this process belongs to; in all but the first, what all meet is not told.

    Raises:
        SystemExit: in place of an error of the user or of an interruption, but in the first.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(turns=turns)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    team = Team(dist.get_rank(), size, turns)
    try:
        yield team
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if team.first:
            raise
        code = Ended(error).code if isinstance(error, KeyboardInterrupt) else 1
        raise SystemExit(code) from None
    finally:
        dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The GPU of this process, where each of several processes on a machine has one."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= count:
        raise ValueError(f"process {place} finds {count} GPUs; start at most {count} a machine")
    torch.cuda.set_device(place)
    return torch.device("cuda", place)
