"""Keyed random numbers, which belong to an image and not to a batch.

Row ``i`` depends only on the seed, the id of image ``i`` and the name of the draw.  So results do
not change when a batch is split, reordered or resumed, and a step that is recomputed for its
gradient has the same noise.

The words come from Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3"), which maps a 64-bit key and a 128-bit counter to four 32-bit words.  The first half of a
128-bit key is its key, and the second half the upper half of its counter; the lower half counts
the blocks.  This is integer arithmetic, and a normal number comes from a word by a table look-up,
additions and multiplications, each rounded by itself: the CPU and the GPU give the same bits.
"""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import blake2b
from operator import index
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoreag.core.devices import send
from scoreag.core.types import State

Keys = Int[Tensor, "rows 4"]  # 32-bit words, as int64
Words = Int[Tensor, "rows count"]  # 0 .. 2^32 - 1, as int64

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the words of the key after each round
ROUNDS = 10
CHUNK_WORDS = 2**20  # words computed together, to limit memory

INDEX_BITS = 5  # of a float's mantissa that select a cubic, with its exponent
FRACTION_BITS = 23 - INDEX_BITS


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
    row_prefixes: tuple[tuple[str | int, ...], ...] = ()  # before the name, per row

    def __post_init__(self) -> None:
        """Convert integers of other libraries to int, as the key is made from their text."""
        object.__setattr__(self, "seed", index(self.seed))
        object.__setattr__(self, "image_ids", tuple(index(i) for i in self.image_ids))

    @staticmethod
    def concat(parts: Sequence["Noise"]) -> "Noise":
        """One source for the rows of all ``parts``, of one seed; each row keeps its numbers."""
        seeds = {part.seed for part in parts}
        if len(seeds) != 1:
            raise ValueError(f"the parts have the seeds {sorted(seeds)}; give parts of one seed")
        ids = [i for part in parts for i in part.image_ids]
        names = [(*row, *part.name) for part in parts for row in part._prefixes()]
        return Noise(seeds.pop(), ids, row_prefixes=tuple(names))

    def fold_in(self, *name: str | int) -> "Noise":
        """The source for a named purpose, e.g. ``noise.fold_in("step", 3)``."""
        plain = (word if isinstance(word, str) else index(word) for word in name)
        return replace(self, name=(*self.name, *plain))

    def normal_like(self, x: State) -> State:
        """Standard normal numbers with the shape, dtype and device of ``x``."""
        return words_to_normal(self._words(x)).view(x.shape).to(x)

    def uniform_like(self, x: State) -> State:
        """Numbers uniform in [0, 1) with the shape, dtype and device of ``x``."""
        return words_to_uniform(self._words(x)).view(x.shape).to(x)

    def _prefixes(self) -> tuple[tuple[str | int, ...], ...]:
        return self.row_prefixes or ((),) * len(self.image_ids)

    def _words(self, x: State) -> Words:
        """A word per number, on the device of ``x``; the same on every device."""
        if len(x) != len(self.image_ids):
            raise ValueError(f"x has {len(x)} rows, but there are {len(self.image_ids)} image ids")
        rows = zip(self.image_ids, self._prefixes(), strict=True)
        keys = [derive_key(self.seed, i, (*before, *self.name)) for i, before in rows]
        return random_words(send(keys_to_words(keys), x.device), math.prod(x.shape[1:]))


class Stream:
    """A sequence of random numbers, which depend only on one key and on the position.

    >>> Stream("order", 3).permutation(5).tolist() == Stream("order", 3).permutation(5).tolist()
    True
    """

    def __init__(self, *parts: object) -> None:
        self.key = keys_to_words([derive_key(*parts)])
        self.position = 0  # words, in whole blocks

    def normal(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Standard normal numbers, float32."""
        return words_to_normal(self._words(math.prod(shape), device)).view(*shape)

    def uniform(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Numbers uniform in [0, 1), float32."""
        return words_to_uniform(self._words(math.prod(shape), device)).view(*shape)

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
        words = random_words(send(self.key, device), count, self.position)[0]
        self.position += -(-count // 4) * 4
        return words


def derive_key(*parts: object) -> bytes:
    """A 128-bit hash of ``parts``; two of 10^9 keys are equal with probability 10^-21."""
    return blake2b(repr(parts).encode(), digest_size=16).digest()


def keys_to_words(keys: Sequence[bytes]) -> Keys:
    """Each key as four 32-bit words."""
    if not keys:
        return torch.zeros(0, 4, dtype=torch.int64)
    flat = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.int32)
    return flat.view(-1, 4).long() & MASK


def add_noise(x0: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
    """``x0 + sigma n``: the forward process, at noise level ``sigma``."""
    return x0 + sigma * noise.fold_in("forward").normal_like(x0)


def next_call_indices(counts: MutableMapping[Any, int], rows: Sequence[Any]) -> tuple[int, ...]:
    """The index of the next call of each row, incremented in ``counts``; rows may repeat.

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
    """Noise with ``fold_in("call", call_indices[i])`` for each row ``i``."""
    key_prefixes = key_prefixes or ((),) * len(call_indices)
    prefixes = (
        (*path, "call", call) for path, call in zip(key_prefixes, call_indices, strict=True)
    )
    return Noise(seed, image_ids, row_prefixes=tuple(prefixes))


def random_words(keys: Keys, count: int, start: int = 0) -> Words:
    """The words ``start`` to ``start + count - 1`` of each stream; ``start`` is a multiple of 4."""
    blocks = -(-count // 4)
    size = max(1, CHUNK_WORDS // max(1, 4 * blocks))
    parts = [_philox(part, blocks, start // 4) for part in keys.split(size)]
    words = parts[0] if len(parts) == 1 else torch.cat(parts)
    return words[:, :count]


def _philox(keys: Keys, blocks: int, first: int) -> Words:
    """Philox with both multiplications of a round in one call, as calls are what costs time."""
    factors, steps = _constants(keys.device)
    counter = torch.arange(first, first + blocks, device=keys.device).expand(len(keys), -1)
    halves = keys.T[:, :, None]
    even = torch.stack([counter & MASK, halves[2].expand_as(counter)])  # words 0 and 2
    odd = torch.stack([(counter >> 32) & MASK, halves[3].expand_as(counter)])  # words 1 and 3
    for key in (halves[:2] + steps).bitwise_and_(MASK):
        product = (even * factors).flip(0)  # 64 bits: int64 wraps around, and keeps them all
        even = (product >> 32).bitwise_and_(MASK).bitwise_xor_(odd).bitwise_xor_(key)
        odd = product.bitwise_and_(MASK)
    return torch.stack([even[0], odd[0], even[1], odd[1]], dim=2).flatten(1)


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """The multipliers, and the number added to the key in each round."""
    rounds = torch.arange(ROUNDS, device=device).view(ROUNDS, 1, 1, 1)
    weyl = torch.tensor(WEYL, device=device).view(2, 1, 1)
    return torch.tensor(MULTIPLIERS, device=device).view(2, 1, 1), rounds * weyl


def words_to_uniform(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Uniform in [0, 1): the upper 24 bits of each word, the precision of a float32."""
    return (words >> 8).to(torch.float32).mul_(2.0**-24)


def words_to_normal(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Standard normal: ``+-Phi^-1(p)`` with ``p = (2 k + 1) / 2^33``; bit 0 is the sign.

    The inverse of Phi is a table of cubics, chosen by the exponent of ``p`` and by the first bits
    of its mantissa; the other bits are the position in the cubic's interval.  The error is below
    1e-6, and ``|z| <= 6.34``.
    """
    scaled = (words | 1).to(torch.float64).to(torch.float32)  # 2^33 p; exact, then rounded once
    pattern = scaled.view(torch.int32)
    chosen = (pattern >> FRACTION_BITS).sub_(127 << INDEX_BITS)
    t = (pattern & ((1 << FRACTION_BITS) - 1)).to(torch.float32).mul_(2.0**-FRACTION_BITS)
    columns = (column.index_select(0, chosen.flatten()) for column in _cubics(words.device))
    c0, c1, c2, c3 = (column.view(words.shape) for column in columns)
    z = c3.mul_(t).add_(c2).mul_(t).add_(c1).mul_(t).add_(c0)
    return z.mul_(((words & 1) * 2 - 1).to(torch.float32))


@cache
def _cubics(device: torch.device) -> tuple[Tensor, ...]:
    """``Phi^-1(p)`` on each interval, as the cubic through four Chebyshev points of it."""
    parts = 2**INDEX_BITS
    ends = 2.0 ** torch.arange(33, dtype=torch.float64)[:, None]
    low = (ends * (1 + torch.arange(parts, dtype=torch.float64) / parts)).flatten()
    step = (ends / parts).expand(-1, parts).flatten()
    low, step = low[: 32 * parts + 1], step[: 32 * parts + 1]  # the last begins at p = 1/2
    angles = (2 * torch.arange(4, dtype=torch.float64) + 1) * (math.pi / 8)
    nodes = (1 - angles.cos()) / 2
    values = torch.special.ndtri((low[:, None] + step[:, None] * nodes) * 2.0**-33)
    powers = nodes[:, None] ** torch.arange(4, dtype=torch.float64)
    cubics = torch.linalg.solve(powers, values.T)
    cubics[:, -1] = 0  # p = 1/2 exactly
    return tuple(column.to(torch.float32).to(device) for column in cubics)
