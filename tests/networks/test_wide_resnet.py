import pytest
import torch
from torch.nn.functional import conv2d, silu

from scoreag.classifiers.networks.wide_resnet import Block, WideResNet


def learnt(depth, width, **options) -> int:
    """On the "meta" device, where weights have a shape and no memory."""
    with torch.device("meta"):
        network = WideResNet(depth=depth, width=width, **options)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    "depth, width, count",
    [(16, 4, 2_748_890), (28, 10, 36_479_194), (40, 4, 8_949_210), (16, 8, 10_961_370)],
)
def test_number_of_weights_is_that_of_the_literature(depth, width, count):
    """Zagoruyko and Komodakis (2016), tables 4 and 5, in millions: 2.7, 36.5, 8.9, 11.0."""
    assert learnt(depth, width) == count


def test_gray_images_and_other_classes_change_only_the_first_and_last_layer():
    fewer = 2 * 16 * 9
    assert learnt(16, 4, image_shape=(1, 28, 28)) == learnt(16, 4) - fewer
    assert learnt(16, 4, classes=200) == learnt(16, 4) + 190 * (256 + 1)


@pytest.mark.parametrize(
    "shape, stem, side", [((3, 32, 32), 1, 8), ((1, 28, 28), 2, 4), ((3, 64, 64), 2, 8)]
)
def test_the_last_group_sees_a_quarter_of_the_side_behind_the_stem(shape, stem, side):
    network = WideResNet(shape, classes=5, depth=10, width=1, stem=stem).eval()
    x = torch.rand(2, *shape)
    maps = network.block3(network.block2(network.block1(network.conv1(x))))
    assert maps.shape == (2, 64, side, side)
    assert network(x).shape == (2, 5)


def test_a_block_without_convolutions_is_the_identity():
    block = Block(4, 4, 1, "relu").eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(3, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_a_block_is_that_of_the_paper():
    """With the normalizations at their beginning (mean 0, variance 1, epsilon 1e-5)."""
    block = Block(2, 4, 2, "silu").eval()
    x = torch.randn(3, 2, 6, 6)
    shrunk = (1 + 1e-5) ** -0.5
    first = silu(shrunk * x)
    inner = silu(shrunk * conv2d(first, block.conv1.weight, stride=2, padding=1))
    straight = conv2d(first, block.convShortcut.weight, stride=2)
    torch.testing.assert_close(block(x), straight + conv2d(inner, block.conv2.weight, padding=1))


def test_the_features_are_means_of_what_the_last_normalization_leaves():
    network = WideResNet((3, 8, 8), depth=10, width=1).eval()
    maps = torch.randn(2, 64, 2, 2)
    network.block3 = torch.nn.Identity()
    network.block1, network.block2, network.conv1 = (torch.nn.Identity() for _ in range(3))
    expected = ((1 + 1e-5) ** -0.5 * maps).clamp(min=0).flatten(2).mean(2)
    torch.testing.assert_close(network.features(maps), expected)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": 20}, "depth is 20; write one of 10, 16, 22, 28"),
        ({"activation": "gelu"}, "activation is 'gelu'; write 'relu' or 'silu'"),
    ],
)
def test_unknown_variants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WideResNet(**options)
