"""A classifier sees images of the colours that it is normalised for."""

import pytest
import torch
from torch import nn

from scoreag import load_classifier, load_prior, synthesize
from scoreag.core.frozen import Frozen


def test_grey_images_are_not_shown_as_three_colours():
    victim = Frozen(nn.Flatten(), (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)).eval()
    assert victim(torch.zeros(1, 3, 2, 2)).shape == (1, 12)
    with pytest.raises(ValueError, match="normalised with 3 numbers, one a colour, and the images"):
        victim(torch.zeros(1, 1, 2, 2))


def test_one_number_is_for_all_colours():
    victim = Frozen(nn.Flatten(), (0.5,), (0.5,)).eval()
    assert victim(torch.ones(1, 3, 1, 1)).tolist() == [[1.0, 1.0, 1.0]]


def test_a_classifier_of_colour_images_is_not_attacked_with_grey_ones():
    prior, known = load_prior("fashion-small"), load_classifier("cifar10-resnet20")
    with pytest.raises(ValueError, match=r"of images of 3 x 32 x 32, and these are 1 x 28 x 28"):
        synthesize(prior, known, [0])
    of_any_size = Frozen(known.module, known.mean, known.std).eval()
    with pytest.raises(ValueError, match=r"cannot take images of \(1, 28, 28\): it is normalised"):
        synthesize(prior, of_any_size, [0])
