from itertools import pairwise

import pytest
import torch
from torch.nn.functional import conv2d, relu

from scoreag.classifiers.networks.preact_resnet import Block, PreActResNet


def count(**options) -> int:
    """On the "meta" device, where weights have a shape and no memory."""
    with torch.device("meta"):
        network = PreActResNet(**options)
    return sum(p.numel() for p in network.parameters())


def test_number_of_weights_is_that_of_the_literature():
    """PreActResNet-18 of Rice et al. (2020) has 11.17 M, counted layer by layer here."""
    widths, total = [64, 64, 128, 256, 512], 3 * 64 * 9
    for inside, outside in pairwise(widths):
        total += 2 * inside + inside * outside * 9 + 2 * outside + outside * outside * 9
        total += 4 * outside + 2 * outside * outside * 9
        total += inside * outside if outside != inside else 0
    assert count() == total + 2 * 512 + 512 * 10 + 10 == 11_172_170


def test_other_images_and_classes_change_only_the_first_and_last_layer():
    assert count(image_shape=(1, 28, 28)) == count() - 2 * 64 * 9
    assert count(classes=100) == count() + 90 * (512 + 1)


@pytest.mark.parametrize("shape, side", [((3, 32, 32), 4), ((1, 28, 28), 4), ((3, 64, 64), 8)])
def test_the_last_group_sees_an_eighth_of_the_side(shape, side):
    network = PreActResNet(shape, 5, width=2, blocks=[1, 1, 1, 1]).eval()
    maps = network.conv1(torch.rand(2, *shape))
    for group in (network.layer1, network.layer2, network.layer3, network.layer4):
        maps = group(maps)
    assert maps.shape == (2, 16, side, side)
    assert network(torch.rand(2, *shape)).shape == (2, 5)


def test_a_block_without_convolutions_is_the_identity():
    block = Block(4, 4, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(3, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_a_block_is_that_of_the_paper():
    """With the normalizations at their beginning (mean 0, variance 1, epsilon 1e-5)."""
    block = Block(2, 4, 2).eval()
    x = torch.randn(3, 2, 6, 6)
    shrunk = (1 + 1e-5) ** -0.5
    first = relu(shrunk * x)
    inner = relu(shrunk * conv2d(first, block.conv1.weight, stride=2, padding=1))
    straight = conv2d(first, block.shortcut[0].weight, stride=2)
    torch.testing.assert_close(block(x), straight + conv2d(inner, block.conv2.weight, padding=1))


def test_names_are_those_of_public_checkpoints():
    names = set(PreActResNet(width=2).state_dict())
    assert {"conv1.weight", "layer2.0.shortcut.0.weight", "layer4.1.bn2.running_var", "bn.weight",
            "linear.bias"} <= names  # fmt: skip
    assert "layer1.0.shortcut.0.weight" not in names


@pytest.mark.parametrize(
    "options, message",
    [
        ({"blocks": [2, 2]}, "blocks is [2, 2]; write four numbers"),
        ({"blocks": [2, 2, 0, 2]}, "write four numbers"),
        ({"width": 0}, "width is 0; write the number of channels"),
    ],
)
def test_a_wrong_size_is_answered_with_the_right_one(options, message):
    with pytest.raises(ValueError) as caught:
        PreActResNet(**options)
    assert message in str(caught.value)
