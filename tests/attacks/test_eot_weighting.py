"""Gradients of several draws: weights by hand, and the shared step against a search over all."""

import math

import pytest
import torch

from scoreag.attacks._objective import (
    NORM_BALLS,
    average_gradients,
    make_eot_weighting,
    selection_probabilities,
    weight_selectively,
)
from scoreag.registry import load_attack


def along(*slopes):
    """A gradient a draw, of one image of one pixel."""
    return torch.tensor(slopes, dtype=torch.float64).view(-1, 1, 1, 1, 1)


def values(*losses):
    return torch.tensor(losses, dtype=torch.float64).view(-1, 1)


def logistic(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_draws_that_one_step_can_fool_outweigh_those_that_it_cannot(norm):
    """Slopes 2, 2, 2 and -1 at loss 0 and reach 1: the step is 1, the weights s(2) and s(-1)."""
    many, other = logistic(2), logistic(-1)
    found = weight_selectively(NORM_BALLS[norm], 1.0, values(0, 0, 0, 0), along(2, 2, 2, -1))
    assert found.item() == pytest.approx((3 * many * 2 - other) / (3 * many + other), abs=1e-12)
    assert average_gradients(values(0, 0, 0, 0), along(2, 2, 2, -1)).item() == pytest.approx(5 / 4)


def test_a_step_against_the_mean_is_found_where_it_fools_more_draws():
    """Slopes 1, 1, 1 and -4: the mean points down, where it fools one draw; up it fools three."""
    losses, slopes = values(-3, -3, -3, -8), along(4, 4, 4, -13)
    chance = selection_probabilities(NORM_BALLS["Linf"], 1.0, losses, slopes)
    assert average_gradients(losses, slopes).item() < 0
    assert chance.flatten().tolist() == pytest.approx([logistic(1)] * 3 + [logistic(-21)])


def test_draws_that_agree_are_averaged():
    gradient = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    same = gradient.repeat(5, 1, 1, 1, 1)
    found = weight_selectively(NORM_BALLS["Linf"], 0.03, torch.zeros(5, 2), same)
    assert torch.allclose(found, gradient[0], atol=1e-6)


def test_images_are_weighted_independently():
    source = torch.Generator().manual_seed(1)
    losses = torch.randn(6, 2, generator=source, dtype=torch.float64)
    slopes = torch.randn(6, 2, 1, 2, 2, generator=source, dtype=torch.float64)
    both = weight_selectively(NORM_BALLS["L2"], 0.5, losses, slopes)
    alone = [
        weight_selectively(NORM_BALLS["L2"], 0.5, losses[:, [i]], slopes[:, [i]]) for i in (0, 1)
    ]
    assert torch.allclose(both, torch.cat(alone), atol=1e-12)


def test_the_shared_step_is_near_the_best_of_the_whole_cube():
    """Six draws on two pixels: against a grid of 201 x 201 steps; corners are what linf takes."""
    source = torch.Generator().manual_seed(2)
    losses = torch.randn(6, 1, generator=source, dtype=torch.float64)
    slopes = 3 * torch.randn(6, 1, 1, 1, 2, generator=source, dtype=torch.float64)
    ticks = torch.linspace(-1, 1, 201, dtype=torch.float64)
    steps = torch.cartesian_prod(ticks, ticks)
    best = torch.sigmoid(losses + slopes.view(6, 2) @ steps.T).sum(0).max()
    found = selection_probabilities(NORM_BALLS["Linf"], 1.0, losses, slopes).sum()
    along_mean = NORM_BALLS["Linf"].steepest_ascent(slopes.mean(0)).flatten()
    by_mean = torch.sigmoid(losses.flatten() + slopes.view(6, 2) @ along_mean).sum()
    assert by_mean <= found <= best + 1e-9
    assert found >= best - 0.02


def test_eot_weightings_are_selected_by_name():
    assert make_eot_weighting("mean", "Linf", 0.1) is average_gradients
    found = make_eot_weighting("selective", "Linf", 1.0)(values(0, 0), along(2, -1))
    many, other = logistic(2), logistic(-1)
    assert found.item() == pytest.approx((2 * many - other) / (many + other))


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_weighting_a_single_draw_is_refused(name):
    with pytest.raises(
        ValueError, match=f"{name}: eot_weighting is 'selective', and eot_samples is 1: there"
    ):
        load_attack(name)(eot_weighting="selective")
