"""How much memory a gradient needs: the most bytes that are kept for the backward pass."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def kept_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that graphs made within ``run`` hold at one time; what they share counts once.

    It is the same on every device, and a function of shapes and types alone.
    """
    meter = _Meter()
    with saved_tensors_hooks(meter.keep, lambda held: held.tensor):
        run()
    return meter.peak


class _Meter:
    """Counts the storages that are held, and remembers the most bytes that were."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.holders: Counter[int] = Counter()

    def keep(self, tensor: Tensor) -> "_Held":
        return _Held(tensor, self)

    def count(self, place: int, size: int, change: int) -> None:
        before = self.holders[place]
        self.holders[place] += change
        if not (before and self.holders[place]):  # the first holder came, or the last one went
            self.now += change * size
            self.peak = max(self.peak, self.now)


class _Held:
    """A tensor that a graph keeps, until the graph drops it."""

    def __init__(self, tensor: Tensor, meter: _Meter) -> None:
        self.tensor = tensor.detach()  # or a graph would hold itself, and never go
        self.meter = meter
        storage = tensor.untyped_storage()
        self.place, self.size = storage.data_ptr(), storage.nbytes()
        meter.count(self.place, self.size, 1)

    def __del__(self) -> None:
        self.meter.count(self.place, self.size, -1)
