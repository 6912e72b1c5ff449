"""Inception as FID knows it, against another implementation and by hand."""

import json
from pathlib import Path

import pytest
import torch

from scoreag.metrics.inception import Inception, pool3x3, resize_like_tf1

GOLDEN = Path(__file__).parent / "inception_golden.json"


def invented() -> dict[str, torch.Tensor]:
    """Weights from one stream of random numbers, of a size that keeps the maps' scale."""
    source = torch.Generator().manual_seed(0)
    weights = Inception().state_dict()
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:
            scale = (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(torch.randn(tensor.shape, generator=source) * scale)
        elif name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=source) + 0.5)
        else:
            center = 1.0 if name.endswith("bn.weight") else 0.0
            tensor.copy_(torch.randn(tensor.shape, generator=source) * 0.1 + center)
    return weights


@pytest.fixture(scope="module")
def network() -> Inception:
    network = Inception().eval()
    network.load_state_dict(invented())
    return network


@torch.no_grad()
def test_the_features_are_those_of_torch_fidelity(network):
    """Every 32nd of 2048, computed by torch-fidelity 0.4.0 from the same weights and pixels.

    The largest feature is 7.1, and float32 keeps seven digits.
    """
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(json.loads(GOLDEN.read_text())["features"])
    torch.testing.assert_close(network(pixels / 255)[:, ::32], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_gray_image_is_repeated_to_three_channels(network):
    gray = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network(gray), network(gray.expand(1, 3, 28, 28)))


def test_the_first_pixel_stays_where_it_is_when_an_image_is_enlarged():
    """Two pixels, 0 and 1, to four: at 0, 1/2, 1 and 3/2, of which the last lies outside."""
    image = torch.tensor([[0.0, 1.0]]).expand(1, 1, 2, 2)
    assert resize_like_tf1(image, 4)[0, 0].tolist() == [[0.0, 0.5, 1.0, 1.0]] * 4


def test_a_mean_at_the_border_is_that_of_the_pixels_inside():
    assert torch.equal(pool3x3(torch.ones(1, 1, 3, 3), "mean"), torch.ones(1, 1, 3, 3))


def test_it_has_the_number_of_weights_of_inception_v3():
    """torchvision's inception_v3: 27,161,264, of which its side branch has 3,326,696 and its last
    layer 2,049,000.
    """
    with torch.device("meta"):
        network = Inception()
    count = sum(p.numel() for p in network.parameters())
    assert count - sum(p.numel() for p in network.fc.parameters()) == 21_785_568
