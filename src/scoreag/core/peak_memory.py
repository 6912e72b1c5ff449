"""The largest memory that this process has taken, on its processor or on a GPU."""

import sys
from contextlib import suppress
from importlib import import_module

import torch


def peak_memory(device: torch.device | None = None) -> int:
    """The largest memory so far, in bytes; 0 where the system does not say.

    Args:
        device: of a GPU, whose memory is meant; else that of the process.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(ImportError):  # Windows has no such module
        resource = import_module("resource")
        most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes
    return 0
