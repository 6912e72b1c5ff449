"""Random views: what they are, and that every image has its own."""

import pytest
import torch
import torch.nn.functional as F

from scoreag.classifiers.augmented import (
    MAX_BRIGHTNESS,
    average_views,
    interpolation,
    random_view,
)
from scoreag.core.rng import Noise


def test_one_color_stays_one_color_and_brightness_within_its_bounds():
    flat = torch.full((200, 3, 8, 8), 0.5)
    seen = random_view(flat, Noise(0, range(200)))
    assert (seen.flatten(1).std(1) < 1e-6).all()
    factors = seen[:, 0, 0, 0] / 0.5
    assert 1 - MAX_BRIGHTNESS <= factors.min() < 0.85 and 1.15 < factors.max() <= 1 + MAX_BRIGHTNESS
    assert abs(factors.mean() - 1) < 0.05


def test_half_of_the_views_are_mirrored():
    ramp = torch.linspace(0, 1, 16).expand(400, 1, 16, 16)
    seen = random_view(ramp, Noise(1, range(400)))
    falls = (seen[:, 0, 8, -1] < seen[:, 0, 8, 0]).float().mean()
    assert 0.4 < falls < 0.6


def test_views_move_and_zoom():
    dot = torch.zeros(300, 1, 33, 33)
    dot[:, :, 16, 16] = 1
    seen = random_view(dot, Noise(2, range(300)))
    weights = seen / seen.flatten(1).sum(1).view(-1, 1, 1, 1).clamp(min=1e-6)
    grid = torch.arange(33.0)
    rows = (weights.sum((1, 3)) * grid).sum(1)
    assert 12 <= rows.min() < 14.5 and 17.5 < rows.max() <= 20.5


def test_the_average_is_that_of_the_views():
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = Noise(3, [5, 6, 7])

    def classify(x):
        return x.flatten(2).mean(2)

    averaged = average_views(classify, 4, noise)
    first, second = averaged(images), averaged(images)
    assert not torch.allclose(first, second)
    source = noise.fold_in("views", 0)
    by_hand = [classify(random_view(images, source.fold_in(k))) for k in range(4)]
    torch.testing.assert_close(first, sum(by_hand) / 4)
    alone = average_views(classify, 4, Noise(3, [6]))(images[1:2])
    torch.testing.assert_close(alone, first[1:2])


def test_a_view_can_be_differentiated():
    images = torch.rand(2, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: random_view(x, Noise(0, [0, 1])), images)
    assert torch.autograd.gradgradcheck(lambda x: random_view(x, Noise(0, [0, 1])) ** 2, images)


def test_a_view_is_what_grid_sample_makes_of_it():
    """Moved by 0.1 of a side, zoomed and mirrored, with its border repeated."""
    images = torch.rand(3, 2, 5, 7, dtype=torch.float64)
    scale, shift = torch.rand(2, 2, 3, dtype=torch.float64) * 2 - 1
    across, down = (interpolation(scale[k], shift[k], n) for k, n in ((0, 7), (1, 5)))
    maps = torch.zeros(3, 2, 3, dtype=torch.float64)
    maps[:, 0, 0], maps[:, 1, 1] = scale
    maps[:, :, 2] = 2 * shift.T  # the grid's side is 2
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(down[:, None] @ images @ across[:, None].mT, expected)


@pytest.mark.parametrize("views", [1, 3])
def test_rows_of_a_random_classifier_are_whole_copies(views):
    seen = []

    class Random:
        def __call__(self, images):
            raise AssertionError("the estimates of a chain are not clamped")

        def forward_unclamped(self, images):
            seen.append(len(images))
            return images.flatten(1)[:, :2]

    average_views(Random(), views, Noise(0, [1, 2]))(torch.rand(2, 1, 4, 4))
    assert seen == [2 * views]
