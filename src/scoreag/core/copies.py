"""Weights in another precision or place: copied once, and again when they have changed."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Thing = TypeVar("Thing")


class Copies(Generic[Thing]):
    """The last copy of some weights that was asked for, as long as they are what they were.

    It is no part of what it belongs to: a copy or a pickle of that begins without it.
    """

    def __init__(self) -> None:
        self.key: Any = None
        self.seen: list[tuple[Tensor, int]] = []  # kept, so that their memory is nobody else's
        self.kept: Thing | None = None

    def of(self, key: Any, weights: Iterable[Tensor], make: Callable[[], Thing]) -> Thing:
        """What ``make`` returns; it is called where ``key`` or ``weights`` are others than last.

        Weights that are written to in place are others, and so are those in another memory.
        """
        now = [(tensor.detach(), _writes(tensor)) for tensor in weights]
        if self.kept is None or self.key != key or not _same(self.seen, now):
            with torch.inference_mode(False), torch.no_grad():  # later gradients may need it
                self.kept = make()
            self.key, self.seen = key, now
        return self.kept

    def __deepcopy__(self, memory: Any) -> "Copies[Thing]":
        return type(self)()

    def __reduce__(self) -> Any:
        return type(self), ()


def _same(seen: list[tuple[Tensor, int]], now: list[tuple[Tensor, int]]) -> bool:
    return len(seen) == len(now) and all(
        a.data_ptr() == b.data_ptr() and writes == again
        for (a, writes), (b, again) in zip(seen, now, strict=True)
    )


def _writes(tensor: Tensor) -> int:
    """How often it was written to in place; inference tensors do not count it."""
    return 0 if tensor.is_inference() else tensor._version
