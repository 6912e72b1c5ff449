"""Philox: random words as a function of a 128-bit key and a counter, on any device.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a 64-bit
key and a 128-bit counter into four 32-bit words.  Here the first half of a 128-bit key is its key,
and the second half is the upper half of its counter; the lower half counts the blocks.  All of it
is integer arithmetic, and a normal number comes out of a word by a look-up, additions and
multiplications alone, each rounded by itself: the CPU and the GPU give the same bits.
"""

import math
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

Keys = Int[Tensor, "rows 4"]  # 32-bit words, as int64
Words = Int[Tensor, "rows count"]  # 0 .. 2^32 - 1, as int64

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the two words of the key after each round
ROUNDS = 10
CHUNK_WORDS = 2**20  # words that are computed together: more would only take memory

INDEX_BITS = 5  # of a float's mantissa that choose a cubic, beside its exponent
FRACTION_BITS = 23 - INDEX_BITS


def random_words(keys: Keys, count: int, start: int = 0) -> Words:
    """The words ``start`` to ``start + count - 1`` of each stream; ``start`` is a multiple of 4."""
    blocks = -(-count // 4)
    size = max(1, CHUNK_WORDS // max(1, 4 * blocks))
    parts = [_blocks(part, blocks, start // 4) for part in keys.split(size)]
    found = parts[0] if len(parts) == 1 else torch.cat(parts)
    return found[:, :count]


def _blocks(keys: Keys, blocks: int, first: int) -> Words:
    """Both multiplications of a round are one, since calls cost more than numbers here."""
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
    """The multipliers, and what is added to the key in each round."""
    rounds = torch.arange(ROUNDS, device=device).view(ROUNDS, 1, 1, 1)
    weyl = torch.tensor(WEYL, device=device).view(2, 1, 1)
    return torch.tensor(MULTIPLIERS, device=device).view(2, 1, 1), rounds * weyl


def uniform(bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Uniform in [0, 1): the upper 24 bits of each word, all that a float32 has room for."""
    return (bits >> 8).to(torch.float32).mul_(2.0**-24)


def normal(bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Standard normal: ``+-Phi^-1(p)`` with ``p = (2 k + 1) / 2^33``; bit 0 is the sign.

    The inverse of Phi is a table of cubics, chosen by the exponent of ``p`` and by the first bits
    of its mantissa; the other bits are where in the cubic's interval it lies.  The error is below
    1e-6, and ``|z| <= 6.34``.
    """
    scaled = (bits | 1).to(torch.float64).to(torch.float32)  # 2^33 p; exact, then rounded once
    pattern = scaled.view(torch.int32)
    chosen = (pattern >> FRACTION_BITS).sub_(127 << INDEX_BITS)
    t = (pattern & ((1 << FRACTION_BITS) - 1)).to(torch.float32).mul_(2.0**-FRACTION_BITS)
    columns = (column.index_select(0, chosen.flatten()) for column in _cubics(bits.device))
    c0, c1, c2, c3 = (column.view(bits.shape) for column in columns)
    z = c3.mul_(t).add_(c2).mul_(t).add_(c1).mul_(t).add_(c0)
    return z.mul_(((bits & 1) * 2 - 1).to(torch.float32))


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
