"""Weights in another precision or place: copied once, and again when they have changed."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class WeightCache(Generic[T]):
    """The last copy of some weights that was asked for, as long as they are what they were.

    It is no part of what it belongs to: a copy or a pickle of that begins without it.
    """

    def __init__(self) -> None:
        self.key: Any = None
        self.sources: list[tuple[Tensor, int]] = []  # kept, so that their memory is nobody else's
        self.value: T | None = None

    def get(self, key: Any, weights: Iterable[Tensor], factory: Callable[[], T]) -> T:
        """What ``make`` returns; it is called where ``key`` or ``weights`` are others than last.

        Weights that are written to in place are others, and so are those in another memory.
        """
        now = [(tensor.detach(), _tensor_version(tensor)) for tensor in weights]
        if self.value is None or self.key != key or not _same_tensors(self.sources, now):
            with torch.inference_mode(False), torch.no_grad():  # later gradients may need it
                self.value = factory()
            self.key, self.sources = key, now
        return self.value

    def __deepcopy__(self, memory: Any) -> "WeightCache[T]":
        return type(self)()

    def __reduce__(self) -> Any:
        return type(self), ()


def _same_tensors(before: list[tuple[Tensor, int]], after: list[tuple[Tensor, int]]) -> bool:
    return len(before) == len(after) and all(
        a.data_ptr() == b.data_ptr() and writes == again
        for (a, writes), (b, again) in zip(before, after, strict=True)
    )


def _tensor_version(tensor: Tensor) -> int:
    """How often it was written to in place; inference tensors do not count it."""
    return 0 if tensor.is_inference() else tensor._version
