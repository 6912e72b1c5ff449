"""The nearest rows, against a search pair by pair."""

import numpy as np
import pytest
import torch

from scoreag.metrics import feature_distances
from scoreag.metrics.feature_distances import find_nearest, kth_neighbor_distances


def rows(count, dims, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))


def pairs(a, b):
    """All distances, by numpy."""
    return np.linalg.norm(a.double().numpy()[:, None] - b.double().numpy()[None], axis=-1)


@pytest.mark.parametrize("kept", [3, 100])
def test_the_nearest_is_that_of_a_search_pair_by_pair(monkeypatch, kept):
    monkeypatch.setattr(feature_distances, "QUERY_CHUNK", 4)
    monkeypatch.setattr(feature_distances, "REFERENCE_CHUNK", kept)
    a, b = rows(9, 5), rows(20, 5, seed=1)
    found = find_nearest(a, b)
    assert np.allclose(found.distance, pairs(a, b).min(1))
    assert found.indices.tolist() == pairs(a, b).argmin(1).tolist()


def test_a_copy_of_8_bit_pixels_is_at_distance_0_exactly():
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (30, 3, 32, 32), generator=source, dtype=torch.uint8)
    found = find_nearest(pixels[[7, 21]], pixels)
    assert found.indices.tolist() == [7, 21] and found.distance.tolist() == [0, 0]


def test_the_distance_of_pixels_is_in_their_units():
    black, gray = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.full((1, 1, 2, 2), 10).byte()
    assert find_nearest(black, gray).distance.tolist() == [20]


def test_a_row_is_not_its_own_neighbor(monkeypatch):
    monkeypatch.setattr(feature_distances, "QUERY_CHUNK", 2)
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert kth_neighbor_distances(points, 1).tolist() == [1, 1, 2, 4]
    assert kth_neighbor_distances(points, 2).tolist() == [3, 2, 3, 6]
    with pytest.raises(ValueError, match="4 images have no neighbor number 4; give more than 4"):
        kth_neighbor_distances(points, 4)
