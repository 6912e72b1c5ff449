import math

import pytest
import torch
from torch import nn
from torch.autograd import gradgradcheck
from torch.nn.functional import scaled_dot_product_attention

from scoreag.diffusion.networks.unet import Attention, Block, UNet
from scoreag.models.model_cards import load_card
from tiny import filled

TINY = {"image_shape": (3, 8, 8), "classes": 3, "channels": 16, "multipliers": (1,)}
AWARE = {**TINY, "attention_at": (4,)}  # 8 pixels are 4 patches


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def time():
    return torch.tensor([-0.8, 0.3])


def test_no_label_is_the_label_after_the_last(x, time):
    network = filled(UNet(**AWARE), 0)
    assert torch.equal(network(x, time), network(x, time, torch.tensor([3, 3])))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_each_class_differs_from_no_label(x, time, label):
    network = filled(UNet(**AWARE), 0)
    told = network(x, time, torch.full((2,), label))
    assert ((told - network(x, time)).abs().amax((1, 2, 3)) > 1e-3).all()


def test_the_output_begins_as_zero(x, time):
    assert not UNet(**AWARE)(x, time).any()


HEADED = {**TINY, "multipliers": (1, 1), "patch": 1, "head_at": 4}


def test_a_head_adds_a_second_output_and_changes_nothing_of_the_first(x, time):
    network = filled(UNet(**HEADED), 0)
    both = network(x, time, torch.tensor([0, 2]), head=True)
    first, second = both.chunk(2)
    torch.testing.assert_close(first, network(x, time, torch.tensor([0, 2])))
    assert first.shape == second.shape == x.shape and not torch.allclose(first, second)


def test_a_head_sees_nothing_of_the_layers_after_it(x, time):
    network = filled(UNet(**HEADED), 0)
    second = network(x, time, head=True)[2:]
    for layer in [*network.up[network.head_after :], network.last]:
        for parameter in layer.parameters():
            parameter.data.add_(0.3)
    assert torch.equal(network(x, time, head=True)[2:], second)


@pytest.mark.parametrize("head_at, known", [(8, "one of 4"), (5, "one of 4")])
def test_a_head_needs_maps_that_are_smaller(head_at, known):
    with pytest.raises(ValueError, match=f"head_at is {head_at}; expected the side .*: {known}"):
        UNet(**HEADED | {"head_at": head_at})


def test_an_image_does_not_depend_on_the_others(x, time):
    network = filled(UNet(**AWARE), 0)
    alone = torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(network(x, time), alone)


def test_attention_is_that_of_torch():
    """Two heads of 32 features, on maps that are not square."""
    attention = filled(Attention(64), 0)
    x = torch.randn(2, 64, 3, 5)
    q, k, v = attention.qkv(attention.norm(x)).reshape(2, 3, 2, 32, 15).transpose(3, 4).unbind(1)
    seen = scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(2, 64, 3, 5)
    torch.testing.assert_close(attention(x), x + attention.out(seen))


def test_a_block_scales_and_shifts_normalized_maps():
    """Maps of +1 and -1 and convolutions that copy, scale 1 and shift 1/2: silu(2 (+-1) + 1/2)."""
    block = Block(16, 16, emb_channels=4)
    for conv in (block.conv1, block.conv2):
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    block.told.bias.data = torch.tensor([1.0] * 16 + [0.5] * 16)
    x = torch.tensor([1.0, -1.0]).expand(1, 16, 2, 2)
    silu = torch.tensor([2.5 / (1 + math.exp(-2.5)), -1.5 / (1 + math.exp(1.5))])
    torch.testing.assert_close(block(x, torch.zeros(1, 4)), x + silu, atol=1e-4, rtol=0)


def test_the_second_derivative_is_that_of_differences(x, time):
    network = filled(UNet(**AWARE), 0, scale=0.3).double()
    inputs = x.double().requires_grad_(), time.double().requires_grad_()
    assert gradgradcheck(network, inputs, fast_mode=True)


def test_number_of_weights_of_the_bundled_model_by_hand():
    """Widths 32, 32, 64, 128 on maps of side 32, 16, 8, 4; attention at 8 and in the middle."""

    def conv(a, b):
        return 9 * a * b + b

    def layer(a, b):
        return a * b + b

    def block(a, b):
        skip = layer(a, b) if a != b else 0
        return 2 * a + conv(a, b) + layer(128, 2 * b) + 2 * b + conv(b, b) + skip

    def attention(a):
        return 2 * a + layer(a, 3 * a) + layer(a, a)

    told = layer(64, 128) + layer(128, 128) + 11 * 128
    down = 2 * (block(32, 32) + conv(32, 32)) + block(32, 64) + attention(64) + conv(64, 64)
    deepest = block(64, 128) + block(128, 128) + attention(128)
    up = block(128 + 128, 128) + block(128 + 64, 128) + conv(128, 128)  # kept: 128, 64
    up += block(128 + 64, 64) + block(64 + 32, 64) + 2 * attention(64) + conv(64, 64)  # 64, 32
    up += block(64 + 32, 32) + block(32 + 32, 32) + conv(32, 32)  # 32, 32
    up += 2 * block(32 + 32, 32)  # 32, 32
    ends = conv(3, 32) + 2 * 32 + conv(32, 3)
    network = UNet(**load_card("cifar10").options)
    assert sum(p.numel() for p in network.parameters()) == told + down + deepest + up + ends


def test_channels_of_the_bundled_model_are_normalized_in_sixteens():
    norms = [
        m for m in UNet(**load_card("cifar10").options).modules() if isinstance(m, nn.GroupNorm)
    ]
    assert {norm.num_channels / norm.num_groups for norm in norms} == {16}


@pytest.mark.parametrize(
    "width, groups, heads",
    [(8, 1, 1), (16, 1, 1), (48, 3, 1), (56, 2, 1), (64, 4, 2), (96, 6, 3), (112, 7, 2)],
)
def test_groups_and_heads_divide_the_width(width, groups, heads):
    """56 channels are 3 groups of 16 and a rest, so 2 groups; 112 are 3 heads of 32 and a rest."""
    attention = Attention(width)
    assert (attention.norm.num_groups, attention.heads) == (groups, heads)
    assert attention(torch.ones(1, width, 2, 2)).shape == (1, width, 2, 2)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 12, 20\); its sides must be multiples of 8"):
        UNet((3, 12, 20), multipliers=(1, 2, 3))


def test_images_need_not_be_square():
    network = UNet((1, 8, 24), channels=16, multipliers=(1, 2, 3))
    assert network(torch.zeros(1, 1, 8, 24), torch.zeros(1)).shape == (1, 1, 8, 24)
