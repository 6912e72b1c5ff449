"""How a training is executed: processes, gradient accumulation, compilation, autocast.

None of it changes the result, except for rounding.  ``torchrun`` and ``accelerate launch`` set the
variables with a process's rank.  One sum over the processes per step transfers the gradient, the
loss and whether a process was interrupted.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from scoreag.core.signals import CommandInterrupted

T = TypeVar("T")


@dataclass(frozen=True)
class DistContext:
    """This process among those that train together; the one of rank 0 writes files and messages.

    Each computes its part of a batch in ``grad_accum_steps`` pieces.
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
        """The rows of a batch of ``count`` for this process, a slice for each accumulation step."""
        n_slices = self.world_size * self.grad_accum_steps
        bounds = [count * i // n_slices for i in range(n_slices + 1)]
        first = self.rank * self.grad_accum_steps
        return [
            slice(bounds[i], bounds[i + 1]) for i in range(first, first + self.grad_accum_steps)
        ]

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch with fewer rows than pieces."""
        n_pieces = self.world_size * self.grad_accum_steps
        if batch_size < n_pieces:
            raise ValueError(
                f"a batch of {batch_size} cannot be cut into {n_pieces} pieces, "
                f"{self.grad_accum_steps} for each of {self.world_size} processes; "
                "give fewer of either, or a larger batch"
            )

    def all_reduce_sum(self, tensors: Iterable[Tensor], *numbers: float) -> list[float]:
        """Sum ``tensors`` over all processes, in place, and numbers, which are returned."""
        if self.world_size == 1:
            return list(numbers)
        tensors = list(tensors)
        packed = tensors[0].new_tensor(numbers) if tensors else torch.tensor(numbers)
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), packed])
        try:
            dist.all_reduce(flat)
        except RuntimeError as error:
            raise ConnectionError(
                "another process of this training ended; its message says why, and the same "
                "command resumes from the last checkpoint"
            ) from error
        *sums, packed = flat.split([*(tensor.numel() for tensor in tensors), len(numbers)])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view(tensor.shape))
        return packed.tolist()

    def main_process_first(self, function: Callable[[], T]) -> T:
        """The result of ``function``, called in the first process first; if it fails, all end."""
        if not self.is_main:
            if self.all_reduce_sum([], 0.0)[0]:
                raise SystemExit(1)
            return function()
        failed = 1.0
        try:
            result = function()
            failed = 0.0
        finally:
            self.all_reduce_sum([], failed)
        return result


SINGLE_PROCESS = DistContext()


@dataclass(frozen=True)
class ExecutionConfig:
    """How a recipe is executed, without a change of the result."""

    dist_context: DistContext = SINGLE_PROCESS
    torch_compile: bool = False
    channels_last: bool = True
    tensorboard: bool = False


@contextmanager
def join_process_group(device: torch.device, grad_accum_steps: int = 1) -> Iterator[DistContext]:
    """This process's context; only the first process reports errors that all of them meet.

    Raises:
        SystemExit: in the other processes, for a user's error or an interruption.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistContext(grad_accum_steps=grad_accum_steps)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    context = DistContext(dist.get_rank(), world_size, grad_accum_steps)
    try:
        yield context
    except (ValueError, OSError, KeyboardInterrupt) as error:
        if context.is_main:
            raise
        code = CommandInterrupted(error).code if isinstance(error, KeyboardInterrupt) else 1
        raise SystemExit(code) from None
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process, if several processes share a machine."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    index, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if index >= count:
        raise ValueError(f"process {index} finds {count} GPUs; start at most {count} a machine")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def resolve_dtype(dtype: str, device: str) -> str:
    """The dtype of a training: "auto" is bf16 where that is fast."""
    if dtype != "auto":
        return dtype
    return "bf16" if device == "cuda" or bf16_is_fast() else "float32"


def autocast_context(name: str, device: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, or no autocast; "auto" is bfloat16 where it is fast."""
    if name not in ("float32", "bf16", "auto"):
        raise ValueError(f"dtype is {name!r}; write 'auto', 'bf16' or 'float32'")
    use_bf16 = name == "bf16" or (name == "auto" and (device == "cuda" or bf16_is_fast()))
    return torch.autocast(device, torch.bfloat16) if use_bf16 else nullcontext()


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16; with AVX2 only, it is 12 times slower."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in probes)
