"""Fixtures for everyone; the worlds themselves are in worlds.py."""

import pytest
import torch

from worlds import Gaussian, TwoClasses


@pytest.fixture
def in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def world(in_double_precision) -> Gaussian:
    """Three kinds of coordinate, to be repeated along a last axis: shape (3, 1)."""
    mean = torch.tensor([[0.3], [-0.2], [0.0]])
    return Gaussian(mean, var=torch.tensor([[0.25], [0.04], [1.0]]))


@pytest.fixture
def two_classes(in_double_precision) -> TwoClasses:
    """Images of one channel and 4 x 4 pixels around +0.4 (class 1) and -0.4 (class 0)."""
    return TwoClasses(torch.full((1, 4, 4), 0.4))
