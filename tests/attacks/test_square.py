"""The proposals of the Square attack."""

import pytest
import torch

from scoreag.attacks.square import (
    PREFETCH,
    SquareWindow,
    make_proposal_randomness,
    p_selection,
    propose_l2,
    pseudo_gaussian,
    sample_window,
    square_side,
    two_pseudo_gaussians,
)
from scoreag.core.rng import Noise

IMAGES = torch.full((50, 3, 12, 12), 0.5, dtype=torch.float64)


def test_squares_shrink_as_in_the_paper():
    """Halved after queries 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000."""
    found = [
        p_selection(q, 10_000, 0.8) for q in (0, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    ]
    assert found == [0.8, 0.8, *(0.8 / 2**n for n in range(1, 10))]
    assert p_selection(101, 1000, 0.8) == p_selection(1010, 10_000, 0.8)


def test_the_side_covers_the_share_and_fits():
    assert (
        square_side(IMAGES, 0.25) == 6
        and square_side(IMAGES, 1e-9) == 1
        and square_side(IMAGES, 1.0) == 12
    )
    assert square_side(IMAGES, 1e-9, min_side=3) == 3


def test_dice_belong_to_an_image_and_a_query():
    noise = Noise(0, [3, 4, 5])
    rolled, alone = (
        make_proposal_randomness(noise, IMAGES[:3], 4),
        make_proposal_randomness(Noise(0, [5]), IMAGES[:1], 4),
    )
    for query in (0, 1, PREFETCH, PREFETCH + 1, 1):
        assert torch.equal(rolled(query)[2:], alone(query))
    assert not torch.equal(rolled(0), rolled(1)) and not torch.equal(
        rolled(1), rolled(PREFETCH + 1)
    )
    assert rolled(0).min() >= 0 and rolled(0).max() <= 1


def test_windows_lie_wherever_they_fit():
    """Ten places each way for a side of 3; 2,000 draws miss none."""
    images = IMAGES[:1].expand(2000, -1, -1, -1)
    found = sample_window(
        3, images, torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)).double()
    )
    assert set(found.top.tolist()) == set(found.left.tolist()) == set(range(10))
    assert (found.mask(images).sum((1, 2, 3)) == 9).all()
    corner = sample_window(3, images[:1], torch.ones(1, 2, dtype=torch.float64))
    assert corner.top.tolist() == [9] and corner.left.tolist() == [9]


def test_a_template_is_placed_in_its_window():
    template = torch.arange(4.0).view(2, 2).double() + 1
    placed = SquareWindow(2, torch.tensor([3]), torch.tensor([5])).paste(template, IMAGES[:1])
    assert torch.equal(placed[0, 0, 3:5, 5:7], template) and placed.sum() == template.sum()


def test_rings_of_a_bump_by_hand():
    """3 x 3: n = 1; outside 1/4, in the middle 1/4 + 1."""
    expected = torch.full((3, 3), 0.25, dtype=torch.float64)
    expected[1, 1] = 1.25
    assert torch.equal(pseudo_gaussian(3, 3), expected)


def test_two_bumps_are_opposite_and_of_length_one():
    found = two_pseudo_gaussians(6)
    assert torch.allclose(found[:3], -found[3:]) and found.norm().item() == pytest.approx(1)


def test_a_move_in_l2_uses_up_the_ball_and_leaves_the_rest_in_place():
    noise = Noise(0, range(50))
    change = noise.normal_like(IMAGES)
    change = 0.2 * change / change.flatten(1).norm(dim=1)[:, None, None, None]
    query = make_proposal_randomness(noise, IMAGES, 11)(0)
    found = propose_l2(IMAGES, IMAGES + change, query, 3, 0.3)
    assert torch.allclose((found - IMAGES).flatten(1).norm(dim=1), torch.tensor(0.3).double())
    here, there = (sample_window(3, IMAGES, query[:, i : i + 2]).mask(IMAGES) for i in (0, 2))
    outside = (here + there) == 0
    assert torch.allclose((found - IMAGES) * outside, change * outside)
    assert ((found - IMAGES) * (there > 0) * (here == 0)).abs().max() == 0
