"""A cache of converted weights that notices when the weights change."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class WeightCache(Generic[T]):
    """The last converted copy of some weights, valid until they change.

    A copy or a pickle of its owner starts with an empty cache.
    """

    def __init__(self) -> None:
        self.key: Any = None
        # referenced here, so that no other tensor reuses their memory
        self.sources: list[tuple[Tensor, int]] = []
        self.value: T | None = None

    def get(self, key: Any, weights: Iterable[Tensor], factory: Callable[[], T]) -> T:
        """The value of ``factory``, which is called again when ``key`` or a weight has changed.

        A weight has changed if it was written to in place, or is in other memory.
        """
        current = [(tensor.detach(), _tensor_version(tensor)) for tensor in weights]
        if self.value is None or self.key != key or not _same_tensors(self.sources, current):
            with torch.inference_mode(False), torch.no_grad():  # later gradients may need it
                self.value = factory()
            self.key, self.sources = key, current
        return self.value

    def __deepcopy__(self, memory: Any) -> "WeightCache[T]":
        return type(self)()

    def __reduce__(self) -> Any:
        return type(self), ()


def _same_tensors(before: list[tuple[Tensor, int]], after: list[tuple[Tensor, int]]) -> bool:
    return len(before) == len(after) and all(
        a.data_ptr() == b.data_ptr() and version == new_version
        for (a, version), (b, new_version) in zip(before, after, strict=True)
    )


def _tensor_version(tensor: Tensor) -> int:
    """The number of in-place writes, which inference tensors do not count."""
    return 0 if tensor.is_inference() else tensor._version
