"""Noise is a function of seed, image and purpose, and of nothing else."""

import pytest
import torch

from scoreag.core.noise import Noise, noisy

X = torch.zeros(3, 1, 4, 4)
NOISE = Noise(seed=0, image_ids=[2, 3, 5])


@pytest.mark.parametrize(
    "other",
    [Noise(1, [2, 3, 5]), Noise(0, [7, 8, 9]), NOISE.at("step"), NOISE.at("step", 0, 1)],
    ids=["seed", "images", "purpose", "step"],
)
def test_each_part_of_the_name_matters(other):
    assert not torch.isclose(NOISE.at("step", 0).normal_like(X), other.normal_like(X)).any()


def test_the_numbers_are_the_same_in_any_precision():
    double, single = NOISE.normal_like(X.double()), NOISE.normal_like(X.float())
    assert double.dtype == torch.float64 and single.dtype == torch.float32
    assert torch.equal(double, single.double())


def test_an_image_keeps_its_numbers_in_any_company():
    assert torch.equal(NOISE.normal_like(X)[[2, 0]], Noise(0, [5, 2]).normal_like(X[:2]))


def test_the_numbers_are_standard_normal():
    """Over 100,000 of them, mean and variance within five standard errors."""
    n = Noise(0, range(10)).normal_like(torch.zeros(10, 10_000, dtype=torch.float64))
    assert abs(n.mean()) < 5 * 1e5**-0.5 and abs(n.var() - 1) < 5 * (2 / 1e5) ** 0.5


def test_the_global_random_state_is_not_touched():
    before = torch.get_rng_state()
    NOISE.normal_like(X)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_noisy_image_is_the_image_plus_sigma_times_its_own_numbers():
    n = NOISE.at("forward").normal_like(X)
    assert torch.allclose(noisy(X + 0.5, torch.tensor(3.0), NOISE), 0.5 + 3 * n)


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="x has 3 rows, but there are 2 image ids"):
        Noise(seed=0, image_ids=[0, 1]).normal_like(X)


def test_joined_sources_draw_what_they_drew_apart():
    parts = [Noise(3, [1, 2]).at("draw", i) for i in range(3)]
    x = torch.zeros(2, 4)
    apart = torch.cat([part.at("step", 5).normal_like(x) for part in parts])
    joined = Noise.joined(parts)
    assert torch.equal(joined.at("step", 5).normal_like(torch.zeros(6, 4)), apart)
    again = Noise.joined([joined, Noise(3, [9])]).at("step", 5)
    alone = Noise(3, [9]).at("step", 5).normal_like(x[:1])
    assert torch.equal(again.normal_like(torch.zeros(7, 4)), torch.cat([apart, alone]))


def test_sources_of_two_seeds_are_not_one():
    with pytest.raises(ValueError, match=r"the seeds \[1, 2\]"):
        Noise.joined([Noise(2, [0]), Noise(1, [0])])
