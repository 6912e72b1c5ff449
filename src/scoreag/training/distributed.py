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

from scoreag.core.signals import CommandInterrupted

Value = TypeVar("Value")


@dataclass(frozen=True)
class DistContext:
    """This process's place among those that train together.

    Args:
        rank: 0 is the one that writes and speaks.
        size: how many there are.
        turns: pieces of its part that a process sees one after the other, to save memory.
    """

    rank: int = 0
    world_size: int = 1
    grad_accum_steps: int = 1

    def __post_init__(self) -> None:
        if self.grad_accum_steps < 1:
            raise ValueError(f"grad_accum_steps is {self.grad_accum_steps}; expected 1 or more")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def micro_batch_slices(self, count: int) -> list[slice]:
        """The rows, of ``count``, that this process sees, a piece a turn."""
        bounds = [
            count * i // (self.world_size * self.grad_accum_steps)
            for i in range(self.world_size * self.grad_accum_steps + 1)
        ]
        mine = range(self.rank * self.grad_accum_steps, (self.rank + 1) * self.grad_accum_steps)
        return [slice(bounds[i], bounds[i + 1]) for i in mine]

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that has no row for each piece."""
        if batch_size < (parts := self.world_size * self.grad_accum_steps):
            raise ValueError(
                f"a batch of {batch_size} cannot be cut into {parts} pieces, {self.grad_accum_steps} for each of "
                f"{self.world_size} processes; give fewer of either, or a larger batch"
            )

    def all_reduce_sum(self, tensors: Iterable[Tensor], *numbers: float) -> list[float]:
        """Add up ``tensors`` over all processes, in place, and numbers, which are returned."""
        if self.world_size == 1:
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

    def main_process_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, then what the others do; if it fails there, all end."""
        if not self.is_main:
            if self.all_reduce_sum([], 0.0)[0]:
                raise SystemExit(1)
            return make()
        failed = 1.0
        try:
            made = make()
            failed = 0.0
        finally:
            self.all_reduce_sum([], failed)
        return made


SINGLE_PROCESS = DistContext()


@contextmanager
def join_process_group(device: torch.device, grad_accum_steps: int = 1) -> Iterator[DistContext]:
    """The team that this process belongs to; in all but the first, what all meet is not told.

    Raises:
        SystemExit: in place of an error of the user or of an interruption, but in the first.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield DistContext(grad_accum_steps=grad_accum_steps)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    team = DistContext(dist.get_rank(), size, grad_accum_steps)
    try:
        yield team
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if team.is_main:
            raise
        code = CommandInterrupted(error).code if isinstance(error, KeyboardInterrupt) else 1
        raise SystemExit(code) from None
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, where each of several processes on a machine has one."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if place >= count:
        raise ValueError(f"process {place} finds {count} GPUs; start at most {count} a machine")
    torch.cuda.set_device(place)
    return torch.device("cuda", place)
