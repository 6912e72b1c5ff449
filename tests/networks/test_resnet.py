import pytest
import torch
from torch.nn.functional import conv2d

from scoreag.classifiers.networks.cifar_resnet import Block, ResNet, Subsample


def learnt(network) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("depth, count", [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_number_of_weights_is_that_of_the_literature(depth, count):
    """He et al. (2016), table 6, in millions: 0.27, 0.46, 0.85."""
    assert learnt(ResNet(depth)) == count


def test_gray_images_need_a_third_of_the_first_filters():
    assert learnt(ResNet(20, image_shape=(1, 28, 28))) == learnt(ResNet(20)) - 2 * 9 * 16


def test_option_b_adds_two_convolutions_with_normalization():
    extra = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert learnt(ResNet(20, shortcut="B")) == learnt(ResNet(20)) + extra


def test_option_a_keeps_every_second_pixel_between_zero_channels():
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4) + 1
    zeros = torch.zeros(2, 2)
    first, second = torch.tensor([[1.0, 3], [9, 11]]), torch.tensor([[17.0, 19], [25, 27]])
    assert torch.equal(Subsample(4, 2)(x)[0], torch.stack([zeros, first, second, zeros]))


def test_a_block_without_convolutions_is_its_shortcut():
    block = Block(2, 4, 2, "A").eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(3, 2, 6, 6)
    assert torch.equal(block(x), Subsample(4, 2)(x))


def test_a_block_is_that_of_the_paper():
    """With the normalizations at their beginning (mean 0, variance 1, epsilon 1e-5)."""
    block = Block(2, 2, 1, "A").eval()
    x = torch.randn(3, 2, 6, 6)
    shrunk = (1 + 1e-5) ** -0.5
    inner = (shrunk * conv2d(x, block.conv1.weight, padding=1)).relu()
    expected = (x + shrunk * conv2d(inner, block.conv2.weight, padding=1)).relu()
    torch.testing.assert_close(block(x), expected)


def test_images_of_another_size_are_accepted():
    assert ResNet(8)(torch.rand(2, 3, 24, 24)).shape == (2, 10)


@pytest.mark.parametrize(
    "options, message",
    [({"depth": 18}, "depth is 18; write one of 8, 14, 20"), ({"shortcut": "C"}, "write 'A' or")],
)
def test_unknown_variants_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**options)
