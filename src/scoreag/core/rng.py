"""Keyed random numbers, which belong to an image and not to a batch.

Row ``i`` is a function of the seed, the id of image ``i`` and the name of the draw alone.  Results
survive splitting, reordering or resuming a batch, and a step that is recomputed for its gradient
sees the same noise.
"""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from operator import index
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from scoreag.core import philox
from scoreag.core.types import State


@dataclass(frozen=True)
class Noise:
    """A stateless source of randomness for the images ``image_ids``.

    >>> noise = Noise(seed=0, image_ids=[7, 8])
    >>> x, step = torch.zeros(2, 3), noise.fold_in("step", 1)
    >>> torch.equal(step.normal_like(x), step.normal_like(x))
    True
    """

    seed: int
    image_ids: Sequence[int]
    name: tuple[str | int, ...] = ()
    row_prefixes: tuple[tuple[str | int, ...], ...] = ()  # what precedes the name, row by row

    def __post_init__(self) -> None:
        """Whole numbers of any library become plain ones: the key is their text."""
        object.__setattr__(self, "seed", index(self.seed))
        object.__setattr__(self, "image_ids", tuple(index(i) for i in self.image_ids))

    @staticmethod
    def concat(parts: Sequence["Noise"]) -> "Noise":
        """One source for the rows of all ``parts``, of one seed: each row draws as it did there."""
        seeds = {part.seed for part in parts}
        if len(seeds) != 1:
            raise ValueError(f"noise of the seeds {sorted(seeds)} is not one; give parts of one")
        ids = [i for part in parts for i in part.image_ids]
        names = [(*row, *part.name) for part in parts for row in part._prefixes()]
        return Noise(seeds.pop(), ids, row_prefixes=tuple(names))

    def fold_in(self, *name: str | int) -> "Noise":
        """The source for a named purpose, e.g. ``noise.fold_in("step", 3)``."""
        plain = (word if isinstance(word, str) else index(word) for word in name)
        return replace(self, name=(*self.name, *plain))

    def normal_like(self, x: State) -> State:
        """Standard normal numbers with the shape, dtype and device of ``x``."""
        return philox.normal(self._words(x)).view(x.shape).to(x)

    def uniform_like(self, x: State) -> State:
        """Numbers uniform in [0, 1) with the shape, dtype and device of ``x``."""
        return philox.uniform(self._words(x)).view(x.shape).to(x)

    def _prefixes(self) -> tuple[tuple[str | int, ...], ...]:
        return self.row_prefixes or ((),) * len(self.image_ids)

    def _words(self, x: State) -> philox.Words:
        """A word a number, computed where ``x`` is: the same on every device and in every dtype."""
        if len(x) != len(self.image_ids):
            raise ValueError(f"x has {len(x)} rows, but there are {len(self.image_ids)} image ids")
        rows = zip(self.image_ids, self._prefixes(), strict=True)
        keys = [derive_key(self.seed, i, (*before, *self.name)) for i, before in rows]
        return philox.random_words(keys_to_words(keys).to(x.device), math.prod(x.shape[1:]))


class Stream:
    """Random numbers one after the other: a function of one key and of the position alone.

    >>> Stream("order", 3).permutation(5).tolist() == Stream("order", 3).permutation(5).tolist()
    True
    """

    def __init__(self, *parts: object) -> None:
        self.key = keys_to_words([derive_key(*parts)])
        self.position = 0  # words, in whole blocks

    def normal(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Standard normal numbers, float32."""
        return philox.normal(self._words(math.prod(shape), device)).view(*shape)

    def uniform(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Numbers uniform in [0, 1), float32."""
        return philox.uniform(self._words(math.prod(shape), device)).view(*shape)

    def integers(self, high: int, shape: Sequence[int]) -> Tensor:
        """Whole numbers in 0 .. high - 1, uniform up to ``high / 2^32``."""
        if not 0 < high < 2**31:
            raise ValueError(f"high is {high}; expected 1 to {2**31 - 1}")
        return (self._words(math.prod(shape), "cpu") * high >> 32).view(*shape)

    def permutation(self, count: int) -> Tensor:
        """0 .. count - 1 in a uniformly random order."""
        pairs = self._words(2 * count, "cpu").view(count, 2)
        return ((pairs[:, 0] >> 1 << 32) | pairs[:, 1]).argsort(stable=True)

    def _words(self, count: int, device: torch.device | str) -> Int[Tensor, " count"]:
        found = philox.random_words(self.key.to(device), count, self.position)[0]
        self.position += -(-count // 4) * 4
        return found


def derive_key(*parts: object) -> bytes:
    """128 bits that are a function of ``parts``; among 10^9 keys two agree with chance 10^-21."""
    return blake2b(repr(parts).encode(), digest_size=16).digest()


def keys_to_words(keys: Sequence[bytes]) -> philox.Keys:
    """Keys as four 32-bit words each."""
    if not keys:
        return torch.zeros(0, 4, dtype=torch.int64)
    flat = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.int32)
    return flat.view(-1, 4).long() & philox.MASK


def add_noise(x0: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
    """``x0 + sigma n``: the forward process, at noise level ``sigma``."""
    return x0 + sigma * noise.fold_in("forward").normal_like(x0)


def next_call_indices(counts: MutableMapping[Any, int], rows: Sequence[Any]) -> tuple[int, ...]:
    """The index of the next call of each row, counted up in ``counts``; rows may repeat.

    >>> next_call_indices({0: 4}, [0, 1, 0])
    (4, 0, 5)
    """
    calls = []
    for row in rows:
        calls.append(counts.get(row, 0))
        counts[row] = calls[-1] + 1
    return tuple(calls)


def noise_for_calls(
    seed: int,
    image_ids: Sequence[int],
    call_indices: Sequence[int],
    key_prefixes: Sequence[tuple[str | int, ...]] = (),
) -> Noise:
    """The randomness of each row at a call of its own: ``fold_in("call", call_indices[i])``."""
    key_prefixes = key_prefixes or ((),) * len(call_indices)
    within = ((*path, "call", call) for path, call in zip(key_prefixes, call_indices, strict=True))
    return Noise(seed, image_ids, row_prefixes=tuple(within))
