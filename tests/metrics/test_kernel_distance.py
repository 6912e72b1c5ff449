"""The kernel distance, against its double sum and against moments known on paper."""

import numpy as np
import pytest
import torch

from scoreag.metrics.feature_distances import compute_kid, kid_with_std_error


def normal(*shape, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def double_sum(a, b):
    """The definition, pair by pair."""

    def k(x, y):
        return (np.dot(x, y) / len(x) + 1) ** 3

    a, b = a.numpy(), b.numpy()
    within = [
        np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
        for s in (a, b)
    ]
    return sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_it_is_the_double_sum_over_pairs():
    a, b = normal(9, 4), 1 + normal(6, 4, seed=1)
    assert compute_kid(a, b) == pytest.approx(double_sum(a, b))


def test_two_points_a_side_by_hand():
    """In one dimension k(x, y) = (x y + 1)^3."""
    a, b = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    across = (1**3 + 2**3 + 1**3 + 3**3) / 4
    assert compute_kid(a, b) == pytest.approx(3**3 + 1 - 2 * across)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_it_is_right_on_average_however_few_the_images(shift):
    """In one dimension it estimates 3 (m1 - m1')^2 + 3 (m2 - m2')^2 + (m3 - m3')^2."""
    s = shift
    expected = 3 * s**2 + 3 * s**4 + (s**3 + 3 * s) ** 2  # raw moments of N(s, 1) less N(0, 1)'s
    found = torch.tensor(
        [compute_kid(normal(5, 1, seed=i), s + normal(8, 1, seed=5000 + i)) for i in range(800)]
    )
    error = found.std() / len(found) ** 0.5
    assert float(found.mean()) == pytest.approx(expected, abs=5 * float(error))


def test_the_error_of_the_blocks_is_that_which_repeating_shows():
    drawn = [
        kid_with_std_error(normal(80, 2, seed=i), 1 + normal(80, 2, seed=900 + i), n_blocks=8)
        for i in range(150)
    ]
    spread = torch.tensor([one.value for one in drawn]).std()
    told = torch.tensor([one.std_error for one in drawn]).square().mean().sqrt()
    assert 0.85 < float(told / spread) < 1.4  # of blocks it is larger, never smaller, by design


def test_the_rows_of_a_kernel_are_summed_in_chunks(monkeypatch):
    a, b = normal(9, 4), normal(7, 4, seed=1)
    whole = compute_kid(a, b)
    monkeypatch.setattr("scoreag.metrics.feature_distances.CHUNK", 2)
    assert compute_kid(a, b) == pytest.approx(whole)


def test_one_image_has_no_kernel_distance():
    with pytest.raises(ValueError, match="1 and 3 images have no kernel distance; give at least 2"):
        compute_kid(normal(1, 2), normal(3, 2))
    with pytest.raises(ValueError, match="3 and 3 images make no 2 blocks"):
        kid_with_std_error(normal(3, 2), normal(3, 2))
