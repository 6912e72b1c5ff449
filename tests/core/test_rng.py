"""Noise is a function of seed, image and purpose, and of nothing else."""

import pytest
import torch

from scoreag.core.rng import Noise, Stream, add_noise

X = torch.zeros(3, 1, 4, 4)
NOISE = Noise(seed=0, image_ids=[2, 3, 5])


@pytest.mark.parametrize(
    "other",
    [Noise(1, [2, 3, 5]), Noise(0, [7, 8, 9]), NOISE.fold_in("step"), NOISE.fold_in("step", 0, 1)],
    ids=["seed", "images", "purpose", "step"],
)
def test_each_part_of_the_name_matters(other):
    assert not torch.isclose(NOISE.fold_in("step", 0).normal_like(X), other.normal_like(X)).any()


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
    n = NOISE.fold_in("forward").normal_like(X)
    assert torch.allclose(add_noise(X + 0.5, torch.tensor(3.0), NOISE), 0.5 + 3 * n)


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="x has 3 rows, but there are 2 image ids"):
        Noise(seed=0, image_ids=[0, 1]).normal_like(X)


def test_joined_sources_draw_what_they_drew_apart():
    parts = [Noise(3, [1, 2]).fold_in("draw", i) for i in range(3)]
    x = torch.zeros(2, 4)
    apart = torch.cat([part.fold_in("step", 5).normal_like(x) for part in parts])
    joined = Noise.concat(parts)
    assert torch.equal(joined.fold_in("step", 5).normal_like(torch.zeros(6, 4)), apart)
    again = Noise.concat([joined, Noise(3, [9])]).fold_in("step", 5)
    alone = Noise(3, [9]).fold_in("step", 5).normal_like(x[:1])
    assert torch.equal(again.normal_like(torch.zeros(7, 4)), torch.cat([apart, alone]))


def test_sources_of_two_seeds_are_not_one():
    with pytest.raises(ValueError, match=r"the seeds \[1, 2\]"):
        Noise.concat([Noise(2, [0]), Noise(1, [0])])


@pytest.mark.slow
def test_no_two_of_a_million_streams_begin_alike():
    """A generator that keeps 32 bits of its key gives about 116 such pairs among them."""
    x = torch.zeros(10_000, 4)
    starts = [
        Noise(seed, range(10_000)).fold_in("step", k).normal_like(x)[:, :2]
        for seed in range(10)
        for k in range(10)
    ]
    pairs = torch.cat(starts).contiguous().view(torch.int64)
    assert len(pairs) == 10**6 and len(pairs.unique()) > 10**6 - 5


@pytest.mark.parametrize("by", ["image", "step", "seed"])
def test_neighbors_share_nothing(by):
    """Products of neighbors' numbers, and of squares of them: within five standard errors of 0."""
    count, size = 200, 2000
    like = torch.zeros(count, size, dtype=torch.float64)
    if by == "image":
        n = Noise(0, range(count)).fold_in("step", 0).normal_like(like)
    elif by == "step":
        noise = Noise(0, [0])
        n = torch.cat([noise.fold_in("step", k).normal_like(like[:1]) for k in range(count)])
    else:
        n = torch.cat([Noise(k, [0]).normal_like(like[:1]) for k in range(count)])
    for first, second in ((n[:-1], n[1:]), (n[:, :-1], n[:, 1:])):
        products = (first * second).flatten()
        squares = ((first**2 - 1) * (second**2 - 1)).flatten()
        assert products.mean().abs() < 5 / len(products) ** 0.5
        assert squares.mean().abs() < 5 * 2 / len(squares) ** 0.5
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (n**power).mean() == pytest.approx(moment, abs=5 * (variance / n.numel()) ** 0.5)


def test_uniform_numbers_fill_the_unit_interval():
    u = Noise(0, range(10)).uniform_like(torch.zeros(10, 10_000, dtype=torch.float64))
    assert u.min() >= 0 and u.max() < 1
    share = torch.histc(u, 20, 0, 1) / u.numel()
    assert (share - 0.05).abs().max() < 5 * (0.05 * 0.95 / u.numel()) ** 0.5


def test_a_stream_goes_on_where_it_was_and_begins_alike():
    whole, parts = Stream("a", 1), Stream("a", 1)
    n = whole.normal((4, 8))
    assert torch.equal(torch.cat([parts.normal((2, 8)), parts.normal((2, 8))]), n)
    assert not torch.equal(whole.normal((4, 8)), n)
    assert not torch.equal(Stream("a", 2).normal((4, 8)), n)


def test_a_stream_orders_and_counts_fairly():
    """Each place and each number as often as the others, within five standard errors."""
    source, count, repeats = Stream("fair"), 5, 1000
    orders = torch.stack([source.permutation(count) for _ in range(repeats)])
    assert torch.equal(orders.sort(1).values, torch.arange(count).expand(repeats, -1))
    numbers = source.integers(count, (repeats,))
    bound = 5 * (repeats * (1 / count) * (1 - 1 / count)) ** 0.5
    for column in [*orders.T, numbers]:
        seen = torch.bincount(column, minlength=count)
        assert len(seen) == count and (seen - repeats / count).abs().max() < bound


def test_a_range_without_numbers_is_refused():
    with pytest.raises(ValueError, match="high is 0; expected 1 to 2147483647"):
        Stream(0).integers(0, (3,))
