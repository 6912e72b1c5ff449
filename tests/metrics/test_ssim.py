import math

import numpy as np
import pytest
import torch

from scoreag.metrics.norms import ssim


def images(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(a, b):
    """Wang's formula read aloud: window by window, with numpy's weighted average."""
    line = [math.exp(-(k * k) / (2 * 1.5**2)) for k in range(-5, 6)]
    weights = np.outer(line, line)
    scores = []
    for channel in range(a.shape[0]):
        for i in range(a.shape[1] - 10):
            for j in range(a.shape[2] - 10):
                x, y = a[channel, i : i + 11, j : j + 11], b[channel, i : i + 11, j : j + 11]
                mx, my = np.average(x, weights=weights), np.average(y, weights=weights)
                vx = np.average((x - mx) ** 2, weights=weights)
                vy = np.average((y - my) ** 2, weights=weights)
                cov = np.average((x - mx) * (y - my), weights=weights)
                top = (2 * mx * my + 0.0001) * (2 * cov + 0.0009)
                scores.append(top / ((mx**2 + my**2 + 0.0001) * (vx + vy + 0.0009)))
    return float(np.mean(scores))


def test_agrees_with_the_formula_written_as_loops():
    a, b = images(2, 3, 13, 12), images(2, 3, 13, 12, seed=1)
    expected = [by_loops(x.numpy(), y.numpy()) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-12)


def test_of_two_plain_greys_only_the_luminance_is_left():
    """(2 * .5 * .25 + C1) / (.25 + .0625 + C1)."""
    a = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64)
    assert ssim(a, a / 2).item() == pytest.approx(0.2501 / 0.3126, abs=1e-9)


def test_equal_images_score_one():
    a = images(2, 3, 32, 32)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(ValueError, match=r"8 x 8 .* at least 11 x 11"):
        ssim(images(1, 3, 8, 8), images(1, 3, 8, 8))
