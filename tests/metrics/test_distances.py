import pytest
import torch

from scoreag.metrics.norms import compute_norms, psnr

CLEAN = torch.full((2, 3, 2, 2), 0.5)


def moved():
    """Image 0 is left alone; in image 1, one pixel moves by .3 and -.4, another by .1."""
    images = CLEAN.clone()
    images[1, 0, 0, 0] += 0.3
    images[1, 1, 0, 0] -= 0.4
    images[1, 2, 1, 1] += 0.1
    return images


@pytest.mark.parametrize(
    "norm, length", [("l0", 2), ("l1", 0.8), ("l2", 0.26**0.5), ("linf", 0.4)], ids=lambda v: str(v)
)
def test_distance_of_two_moved_pixels_by_hand(norm, length):
    assert compute_norms(CLEAN, moved())[norm].tolist() == pytest.approx([0, length])


def test_a_change_of_a_tenth_everywhere_is_twenty_decibels():
    assert psnr(CLEAN, CLEAN + 0.1).tolist() == pytest.approx([20, 20], rel=1e-5)


def test_equal_images_have_infinite_psnr():
    assert psnr(CLEAN, CLEAN).isinf().all()
