"""How many draws fit into a memory budget: they are computed as one batch."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from scoreag.registry import describe_value

DEFAULT_BUDGET = 2 * 2**30  # bytes
SAFETY_FACTOR = 1.75  # of the graph; processes were measured to take 1.2 to 1.6 times as much
UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def saved_tensor_bytes(run: Callable[[], Any]) -> int:
    """The peak bytes of tensors saved for backward by ``run``; shared storages count once.

    The result depends on shapes and types alone, not on the device.
    """
    meter = _MemoryMeter()
    with saved_tensors_hooks(meter.pack, lambda saved: saved.tensor):
        run()
    return meter.peak


class _MemoryMeter:
    """Counts the bytes of storages in use, and their peak."""

    def __init__(self) -> None:
        self.current = self.peak = 0
        self.refcounts: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> "_SavedTensor":
        return _SavedTensor(tensor, self)

    def count(self, address: int, nbytes: int, delta: int) -> None:
        before = self.refcounts[address]
        self.refcounts[address] += delta
        if not (before and self.refcounts[address]):  # the first reference, or the last
            self.current += delta * nbytes
            self.peak = max(self.peak, self.current)


class _SavedTensor:
    """A tensor that a graph saves; it is counted until the graph releases it."""

    def __init__(self, tensor: Tensor, meter: _MemoryMeter) -> None:
        self.tensor = tensor.detach()  # or the graph would reference itself, and never be freed
        self.meter = meter
        storage = tensor.untyped_storage()
        self.address, self.nbytes = storage.data_ptr(), storage.nbytes()
        meter.count(self.address, self.nbytes, 1)

    def __del__(self) -> None:
        self.meter.count(self.address, self.nbytes, -1)


def measure_image_bytes(run_gradient: Callable[[int], None]) -> int:
    """Bytes that one more image takes; what images share, such as weights, is not counted."""
    one, two = (saved_tensor_bytes(partial(run_gradient, count)) for count in (1, 2))
    return round(SAFETY_FACTOR * (two - one))


def max_parallel_draws(
    bytes_per_image: int, image_count: int, draws: int, max_bytes: int | None, held_bytes: int = 0
) -> int:
    """How many draws of the images fit into ``max_bytes``, at least 1; None: into 2 GiB.

    Args:
        bytes_per_image: of one draw of one image.
        held_bytes: of one draw of one image, until all draws have been computed.

    Raises:
        ValueError: a single draw does not fit into ``max_bytes``; says what would.
    """
    per_draw, held = max(1, bytes_per_image * image_count), held_bytes * draws * image_count
    if max_bytes is not None and per_draw + held > max_bytes:
        fit = max_bytes * image_count // (per_draw + held)
        fewer = f"at most {fit} of them at once, or " if fit else ""
        needed = format_bytes(per_draw + held)
        raise ValueError(
            f"the gradient of {f'{draws} draws' if held_bytes else 'one draw'} of {image_count} "
            f"images takes about {needed}, and max_memory is {format_bytes(max_bytes)}; "
            f"give {fewer}max_memory={needed!r}"
        )
    return max(1, min(draws, ((max_bytes or DEFAULT_BUDGET) - held) // per_draw))


def parse_bytes(value: int | str) -> int:
    """A number of bytes, from an integer or text such as "4 GiB" or "500MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value), re.ASCII)
    if not match or match[2].upper() not in UNITS or isinstance(value, bool):
        raise ValueError(
            f"max_memory is {describe_value(value)}; write bytes, or such as '500 MiB' or '4 GiB'"
        )
    size = int(float(match[1]) * UNITS[match[2].upper()])
    if size < 1:
        raise ValueError(f"max_memory is {value!r}; expected more than nothing, e.g. '4 GiB'")
    return size


def format_bytes(size: int) -> str:
    """In MiB below 1 GiB, else in GiB; rounded up, so that the number suffices as a limit."""
    unit = "GiB" if size >= 2**30 else "MiB"
    return f"{-(-100 * size // UNITS[unit.upper()]) / 100:g} {unit}"
