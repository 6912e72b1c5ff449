import torch

from scoreag.core.rng import Stream
from scoreag.training.schedule import alternating_flip, random_crop, random_flip, random_shift


def test_a_shift_by_one_pixel_mirrors_the_border():
    row = torch.arange(4.0).expand(1, 1, 4, 4)
    seen = {tuple(random_shift(row, 1, Stream(k))[0, 0, 0].tolist()) for k in range(30)}
    assert seen == {(1, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 2)}


def test_each_image_moves_by_itself():
    image = torch.rand(1, 3, 8, 8).expand(64, -1, -1, -1)
    assert len(random_shift(image, 2, Stream(0)).flatten(1).unique(dim=0)) > 10


def test_windows_are_everywhere_and_nowhere_else():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    corners = {random_crop(image, (3, 2), Stream(k))[0, 0, 0, 0].item() for k in range(100)}
    assert corners == {0, 1, 2, 4, 5, 6}


def test_two_epochs_show_an_image_and_its_mirror_image():
    images, ids = torch.rand(50, 3, 4, 4), torch.arange(100, 150)
    even, odd = (alternating_flip(images, ids, epoch) for epoch in (0, 1))
    assert torch.equal(even.flip(3), odd)
    kept = (even == images).flatten(1).all(1)
    assert 15 < kept.sum() < 35


def test_alternation_belongs_to_the_image_and_not_to_the_batch():
    images, ids = torch.rand(6, 3, 4, 4), torch.tensor([5, 1, 9, 70, 8, 3])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = alternating_flip(images[order], ids[order], 0)
    assert torch.equal(shuffled, alternating_flip(images, ids, 0)[order])


def test_flips_are_half_of_all():
    images = torch.rand(400, 1, 2, 2)
    kept = (random_flip(images, Stream(0)) == images).flatten(1).all(1).sum()
    assert 150 < kept < 250  # five standard errors
