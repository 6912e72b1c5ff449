"""Random words by Philox: the published vectors, and numbers that no device may round otherwise."""

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from scoreag.core import rng as philox

KEYS = torch.randint(0, 2**32, (3, 4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)  # fmt: skip
def test_the_words_are_those_that_the_authors_publish(counter, key, expected):
    """The known answers of philox4x32-10 in the Random123 distribution."""
    low0, low1, *high = (int(word, 16) for word in counter.split())
    block = np.array([low0 | low1 << 32], dtype=np.uint64).astype(np.int64)[0]
    keys = torch.tensor([[*(int(word, 16) for word in key.split()), *high]])
    found = philox._philox(keys, 1, int(block))
    assert [f"{word:08x}" for word in found[0].tolist()] == expected.split()


def test_words_are_the_same_however_many_are_asked_for_at_once(monkeypatch):
    whole = philox.random_words(KEYS, 50)
    assert torch.equal(philox.random_words(KEYS, 22, start=12), whole[:, 12:34])
    monkeypatch.setattr(philox, "CHUNK_WORDS", 16)
    assert torch.equal(philox.random_words(KEYS, 50), whole)
    assert torch.equal(philox.random_words(KEYS[1:2], 50), whole[1:2])
    assert philox.random_words(KEYS[:0], 5).shape == (0, 5)


@pytest.mark.parametrize(
    "bits",
    [
        philox.random_words(KEYS, 200_000).flatten(),
        torch.arange(100_000),  # the tails
        2**32 - 1 - torch.arange(100_000),  # around 0
        2 ** torch.arange(32),
    ],
    ids=["any", "tails", "middle", "powers"],
)
def test_normal_numbers_are_the_inverse_of_their_distribution(bits):
    exact = np.where(bits.numpy() & 1, 1, -1) * ndtri((bits.numpy() | 1) / 2**33)
    assert np.abs(philox.words_to_normal(bits[None])[0].numpy() - exact).max() < 1e-6


def test_normal_numbers_are_rounded_step_by_step():
    """numpy, which fuses nothing, rounds to the same bits: so does any device that follows IEEE."""
    bits = philox.random_words(KEYS, 100_000).flatten()
    scaled = (bits.numpy() | 1).astype(np.float64).astype(np.float32)
    pattern = scaled.view(np.int32)
    chosen = (pattern >> 18) - (127 << 5)
    t = (pattern & (2**18 - 1)).astype(np.float32) * np.float32(2.0**-18)
    c0, c1, c2, c3 = (column.numpy()[chosen] for column in philox._cubics(torch.device("cpu")))
    z = (((c3 * t) + c2) * t + c1) * t + c0
    signed = np.where(bits.numpy() & 1, z, -z)
    assert np.array_equal(philox.words_to_normal(bits[None])[0].numpy(), signed)


def test_a_normal_number_and_its_opposite_differ_in_the_last_bit():
    bits = philox.random_words(KEYS, 1000)
    assert torch.equal(philox.words_to_normal(bits), -philox.words_to_normal(bits ^ 1))


def test_uniform_numbers_are_the_upper_bits():
    bits = torch.tensor([[0, 255, 256, 2**31, 2**32 - 1]])
    assert philox.words_to_uniform(bits).tolist() == [[0, 0, 2.0**-24, 0.5, 1 - 2.0**-24]]
