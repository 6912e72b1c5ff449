"""How many draws are taken at once: as many as fit into a budget of memory."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from scoreag.registry import describe_value


def saved_tensor_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that graphs made within ``run`` hold at one time; what they share counts once.

    It is the same on every device, and a function of shapes and types alone.
    """
    meter = _MemoryMeter()
    with saved_tensors_hooks(meter.pack, lambda held: held.tensor):
        run()
    return meter.peak


class _MemoryMeter:
    """Counts the storages that are held, and remembers the most bytes that were."""

    def __init__(self) -> None:
        self.current = self.peak = 0
        self.refcounts: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> "_SavedTensor":
        return _SavedTensor(tensor, self)

    def count(self, address: int, nbytes: int, delta: int) -> None:
        before = self.refcounts[address]
        self.refcounts[address] += delta
        if not (before and self.refcounts[address]):  # the first holder came, or the last one went
            self.current += delta * nbytes
            self.peak = max(self.peak, self.current)


class _SavedTensor:
    """A tensor that a graph keeps, until the graph drops it."""

    def __init__(self, tensor: Tensor, meter: _MemoryMeter) -> None:
        self.tensor = tensor.detach()  # or a graph would hold itself, and never go
        self.meter = meter
        storage = tensor.untyped_storage()
        self.address, self.nbytes = storage.data_ptr(), storage.nbytes()
        meter.count(self.address, self.nbytes, 1)

    def __del__(self) -> None:
        self.meter.count(self.address, self.nbytes, -1)


DEFAULT_BUDGET = 2 * 2**30  # bytes, where nothing is said
SAFETY_FACTOR = 1.75  # of the graph: 1.2 to 1.6 were measured in processes of their own, all told
UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_bytes(value: int | str) -> int:
    """A number of bytes, or "4 GiB", "500MB"."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value), re.ASCII)
    if not match or match[2].upper() not in UNITS or isinstance(value, bool):
        raise ValueError(
            f"max_memory is {describe_value(value)}; write bytes, or such as '500 MiB' or '4 GiB'"
        )
    found = int(float(match[1]) * UNITS[match[2].upper()])
    if found < 1:
        raise ValueError(f"max_memory is {value!r}; expected more than nothing, e.g. '4 GiB'")
    return found


def max_parallel_draws(
    bytes_per_image: int, image_count: int, draws: int, max_bytes: int | None, held_bytes: int = 0
) -> int:
    """How many draws of the images fit into ``max_bytes``; without a limit into 2 GiB.

    Args:
        bytes_per_image: bytes that one draw of one image takes.
        held_bytes: of these, held until all draws have been taken.

    Raises:
        ValueError: a single draw does not fit into the limit; the message gives what would.
    """
    a_draw, all_held = max(1, bytes_per_image * image_count), held_bytes * draws * image_count
    if max_bytes is not None and a_draw + all_held > max_bytes:
        fit = max_bytes * image_count // (a_draw + all_held)
        fewer = f"at most {fit} of them at once, or " if fit else ""
        needed = format_bytes(a_draw + all_held)
        raise ValueError(
            f"the gradient of {f'{draws} draws' if held_bytes else 'one draw'} of {image_count} "
            f"images takes about {needed}, and max_memory is {format_bytes(max_bytes)}; "
            f"give {fewer}max_memory={needed!r}"
        )
    return max(1, min(draws, ((max_bytes or DEFAULT_BUDGET) - all_held) // a_draw))


def measure_image_bytes(run_gradient: Callable[[int], None]) -> int:
    """Bytes that one image more takes: what is shared, such as weights, is not counted."""
    one, two = (saved_tensor_bytes(partial(run_gradient, count)) for count in (1, 2))
    return round(SAFETY_FACTOR * (two - one))


def format_bytes(size: int) -> str:
    """In MiB below one GiB, rounded up, so that what is said to do does."""
    unit = "GiB" if size >= 2**30 else "MiB"
    return f"{-(-100 * size // UNITS[unit.upper()]) / 100:g} {unit}"
