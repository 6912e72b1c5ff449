"""How exactly a network computes while it learns."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def precision(name: str, device: str) -> AbstractContextManager[Any]:
    """Autocast to bfloat16, or nothing; "auto" is bfloat16 where it is fast."""
    if name not in ("float32", "bf16", "auto"):
        raise ValueError(f"precision is {name!r}; write 'auto', 'bf16' or 'float32'")
    short = name == "bf16" or (name == "auto" and (device == "cuda" or bf16_is_fast()))
    return torch.autocast(device, torch.bfloat16) if short else nullcontext()


def bf16_is_fast() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is 12 times slower.

    Measured with a U-Net on a processor that has AVX2 only.
    """
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)
