"""Converted copies of weights: made once, and again when the weights change."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class WeightCache(Generic[T]):
    """The last converted copy of some weights, as long as they have not changed.

    It is no part of its owner: a copy or a pickle of that starts with an empty cache.
    """

    def __init__(self) -> None:
        self.key: Any = None
        self.sources: list[
            tuple[Tensor, int]
        ] = []  # referenced, so that no other tensor reuses their memory
        self.value: T | None = None

    def get(self, key: Any, weights: Iterable[Tensor], factory: Callable[[], T]) -> T:
        """What ``factory`` returns; called again when ``key`` or a weight differs from last time.

        A weight differs if it was written to in place, or lies in other memory.
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
    """How often it was written to in place; inference tensors do not count it."""
    return 0 if tensor.is_inference() else tensor._version
