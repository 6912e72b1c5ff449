import pytest
import torch

from scoreag.attacks.advad import AdvAD
from scoreag.diffusion.noise_schedules import vp_uniform

GRAY = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)


def linear(offset):
    """Class 0 by ``offset``; the loss rises along (1, -2)."""

    def classifier(images):
        score = images[:, 0, 0, 0] - 2 * images[:, 0, 0, 1] - offset
        return torch.stack([torch.zeros_like(score), score], 1)

    return classifier


def test_a_full_push_at_every_step_ends_at_the_bound_exactly():
    """The widths of the noise levels add up to the first level, whatever their number."""
    for steps in (3, 50):
        attack = AdvAD(eps=0.1, steps=steps, scale=1e9)
        found = attack(linear(10.0), GRAY, torch.tensor([0]), image_ids=[0])
        assert (found - GRAY).flatten().tolist() == pytest.approx([0.1, -0.1])


def test_one_step_of_the_chain_by_hand():
    """From sigma_1 = 152.17 to the last level e = sqrt(exp(0.0001 + 19.9e-6 / 2) - 1), then to 0.

    p_0 is nearly 1, so that the gradient is (1, -2) a pixel, half as large in a state, which moves
    by scale sigma^2 or e^2 times that, and the image by half of it.
    """
    first, last, _ = vp_uniform(2).tolist()
    scale = 1e-9
    found = AdvAD(eps=0.1, steps=2, scale=scale)(
        linear(60.0), GRAY, torch.tensor([0]), image_ids=[0]
    )
    moved = scale / 4 * ((first - last) * first + last * last)
    assert (found - GRAY).flatten().tolist() == pytest.approx([moved, -2 * moved], rel=1e-9)


def test_a_confidently_misclassified_image_does_not_change():
    found = AdvAD()(linear(-1000.0), GRAY, torch.tensor([0]), image_ids=[0])
    assert torch.equal(found, GRAY)
