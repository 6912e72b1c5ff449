"""Precision and recall, against loops over all pairs, and where the answers are plain."""

import numpy as np
import torch

from scoreag.metrics.feature_distances import precision, recall


def rows(count, dims, seed=0):
    return torch.randn(count, dims, generator=torch.Generator().manual_seed(seed))


def within(asked, by, k):
    """The definition, ball by ball."""
    asked, by = asked.double().numpy(), by.double().numpy()
    reach = [sorted(np.linalg.norm(by - row, axis=1))[k] for row in by]  # the first is itself
    return [
        any(np.linalg.norm(row - center) <= r for center, r in zip(by, reach, strict=True))
        for row in asked
    ]


def test_they_are_those_of_a_loop_over_balls():
    drawn, real = rows(40, 2), 1 + rows(30, 2, seed=1)
    assert precision(drawn, real).tolist() == within(drawn, real, 3)
    assert recall(drawn, real).tolist() == within(real, drawn, 3)
    assert 0 < int(recall(drawn, real).sum()) < 30  # a case that tells


def test_a_mode_that_is_never_drawn_lacks_in_recall_alone():
    real = torch.cat([rows(20, 2), 100 + rows(20, 2, seed=1)])
    drawn = real[:20] + 1e-3
    assert precision(drawn, real).all()
    assert recall(drawn, real).tolist() == [True] * 20 + [False] * 20


def test_draws_from_elsewhere_lack_in_both():
    real, drawn = rows(20, 2), 100 + rows(20, 2, seed=1)
    assert not precision(drawn, real).any() and not recall(drawn, real).any()


def test_k_widens_the_balls():
    points, near = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[3.0]])
    assert not precision(near, points[:2], k=1).any()
    assert precision(near, points, k=2).all()
