"""Momentum steps and the inputs of the transfer attacks, by hand."""

import pytest
import torch

from scoreag.attacks import di_fgsm, si_ni_fgsm
from scoreag.attacks._search import run_mi_fgsm
from scoreag.core.rng import Noise

GRAY = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)


def test_all_steps_together_use_up_the_ball():
    found = run_mi_fgsm(lambda x, i: torch.ones_like(x), GRAY, 0.1, 7, 1.0)
    assert torch.allclose(found, GRAY + 0.1)


def test_momentum_outlasts_a_gradient_that_changes_sign():
    """Gradients (1, 1), (1, -1), (1, -1), each over its mean size of 1: sums with decay 0.5 are
    (1, 1), (1.5, -0.5), (1.75, -1.25); with decay 1 the second is (2, 0), which does not move."""
    turns = [torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])]

    def moved(decay):
        gradients = [turn.double().view_as(GRAY) for turn in turns]
        found = run_mi_fgsm(lambda x, i: gradients[i], GRAY, 0.3, 3, decay)
        return (found - GRAY).flatten().tolist()

    assert moved(0.5) == pytest.approx([0.3, -0.1])
    assert moved(1.0) == pytest.approx([0.3, 0.0])


def test_nesterov_takes_the_gradient_ahead_along_the_momentum():
    """Step 0.1, decay 0.5: at 0 the velocity is 0; it becomes 1, so the second look is at
    0.6 + 0.1 * 0.5 * 1."""
    seen = []

    def gradient(x, i):
        seen.append(x[0, 0, 0, 0].item())
        return torch.ones_like(x)

    run_mi_fgsm(gradient, GRAY, 0.2, 2, 0.5, nesterov=True)
    assert seen == pytest.approx([0.5, 0.65])


def test_copies_are_weighted_by_their_scale():
    """The loss falls by 1 a unit above 0.4, and rises by 1.5 below: at 0.5 and 0.25 the gradient is
    (-1 + 1.5 / 2) / 2 < 0, where (-1 + 1.5) / 2 without the halving would be above 0."""

    def classifier(images):
        x = images.sum((1, 2, 3))
        score = torch.where(x > 0.4, 0.4 * 1.5 - (x - 0.4), 1.5 * x)
        return torch.stack([torch.zeros_like(score), score], 1)

    image = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    attack = si_ni_fgsm.SINIFGSM(eps=0.05, steps=1, copies=2, loss="margin")
    found = attack(classifier, image, torch.tensor([0]), image_ids=[0])
    assert found.item() == pytest.approx(0.45)


def test_without_resizing_an_image_is_itself():
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(di_fgsm.resize_and_pad(images, Noise(0, range(3)), 0.0, 0.5), images)


def test_a_resized_white_image_is_a_square_of_its_size_inside_black():
    """Its mean is the square's area: between shrink^2 and 1, and not always the same."""
    white = torch.ones(40, 1, 32, 32, dtype=torch.float64)
    found = di_fgsm.resize_and_pad(white, Noise(0, range(40)), 1.0, 0.5)
    shares = found.mean((1, 2, 3))
    assert (shares > 0.5**2).all() and (shares < 1).all()
    assert shares.sqrt().mean().item() == pytest.approx(
        0.75, abs=5 * (1 / 12 / 4 / 40) ** 0.5 + 0.02
    )
    assert 0 < found[:, :, 0].mean() < 1  # some reach the edge, others do not


def test_some_of_the_images_are_resized():
    """With probability 1/2; of 400, five standard errors."""
    white = torch.ones(400, 1, 8, 8, dtype=torch.float64)
    found = di_fgsm.resize_and_pad(white, Noise(0, range(400)), 0.5, 0.5)
    whole = (found.mean((1, 2, 3)) > 1 - 1e-9).double().mean().item()
    assert whole == pytest.approx(0.5, abs=5 * (0.25 / 400) ** 0.5)
