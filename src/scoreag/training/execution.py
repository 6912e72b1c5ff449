"""By what means a recipe is followed: none of them changes the result but by rounding."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scoreag.training.distributed import SINGLE_PROCESS, DistContext


@dataclass(frozen=True)
class ExecutionConfig:
    """How a recipe is carried out: processes, compilation, memory layout, logging.

    Args:
        team: the processes that share the work, and the turns in which each does its part.
        compiled: whether torch.compile makes a program of the network; it has to be told.
        channels_last: whether the colours of a pixel lie side by side in memory.
        tensorboard: whether curves are written for TensorBoard, too.
    """

    dist_context: DistContext = SINGLE_PROCESS
    torch_compile: bool = False
    channels_last: bool = True
    tensorboard: bool = False


def compile_network(network: nn.Module, execution: ExecutionConfig) -> None:
    """Make a program of the network if that is wanted; its weights keep their names."""
    if execution.torch_compile:
        network.compile()


def autocast_context(name: str, device: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, or nothing; "auto" is bfloat16 where it is fast."""
    if name not in ("float32", "bf16", "auto"):
        raise ValueError(f"dtype is {name!r}; write 'auto', 'bf16' or 'float32'")
    short = name == "bf16" or (name == "auto" and (device == "cuda" or bf16_is_fast()))
    return torch.autocast(device, torch.bfloat16) if short else nullcontext()


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is 12 times slower.

    Measured with a U-Net on a processor that has AVX2 only.
    """
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
