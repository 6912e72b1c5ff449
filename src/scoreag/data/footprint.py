"""How much memory a data set takes, known before it is read, and how much there is."""

import math
import os
from pathlib import Path

from scoreag.data.loading import load_dataset, source_path

COPIES = 2.5  # of the images in memory while they are read and split
MEMORY_INFO = Path("/proc/meminfo")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container


def check_memory(spec: str, size: tuple[int, int] | None = None) -> None:
    """Refuse images that do not fit into the free memory, if their size is known.

    Args:
        size: (height, width) to which images are resized.
    """
    needed, free = estimate_bytes(spec, size), free_memory()
    if needed is not None and free is not None and COPIES * needed > free:
        raise ValueError(
            f"{spec} takes {needed / 2**30:.1f} GiB in 8 bits, {COPIES:g} times that while it is "
            f"read, and {free / 2**30:.1f} GiB are free; give fewer images, or a smaller --size"
        )


def estimate_bytes(spec: str, size: tuple[int, int] | None = None) -> int | None:
    """The bytes of one's own images in 8 bits; None of a published data set or a range."""
    path = source_path(spec)
    if path is None or not path.exists() or str(spec).endswith("]"):
        return None
    if path.is_file():
        return path.stat().st_size
    count = sum(len(files) for _, _, files in os.walk(path))
    first = load_dataset(f"{spec}[0]", size=size, progress=False) if count else None
    return count * math.prod(first.images.shape[1:]) if first else 0


def free_memory() -> int | None:
    """The bytes that can be allocated without swapping; None where the system does not say."""
    if not MEMORY_INFO.is_file():
        return None
    lines = (line.split() for line in MEMORY_INFO.read_text(encoding="ascii").splitlines())
    free = next((int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:"), None)
    limit = MEMORY_LIMIT.read_text(encoding="ascii").strip() if MEMORY_LIMIT.is_file() else "max"
    return min(free, int(limit)) if free is not None and limit.isdigit() else free
