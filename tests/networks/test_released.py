"""Networks of public releases, against what the released code computes."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from scoreag.diffusion.networks.adm_unet import build as adm_unet
from scoreag.diffusion.networks.edm_blocks import (
    Block,
    ResamplingConv,
    group_norm,
    one_hot_labels,
    sinusoidal_embedding,
)
from scoreag.diffusion.parameterizations import Preconditioned, edm, iddpm, ncsn, vp
from scoreag.models.convert.edm import build_spec
from scoreag.registry import load_component

GOLDEN = json.loads((Path(__file__).parent / "released_golden.json").read_text())
SHARED = Path(os.environ.get("SCOREAG_SHARED", "")) / "golden"
FAMILIES = {"edm": edm(), "vp": vp(), "ncsn": ncsn(), "iddpm": iddpm()}


def invented(network: torch.nn.Module) -> torch.nn.Module:
    """Weights from one stream of random numbers, of a size that keeps the maps' scale."""
    source = torch.Generator().manual_seed(0)
    for name, tensor in network.state_dict().items():
        if "resample_filter" in name:
            continue
        scale = 0.3 if tensor.ndim < 2 else (1 / tensor[0].numel()) ** 0.5
        center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        tensor.copy_(torch.randn(tensor.shape, generator=source) * scale + center)
    return network.eval()


def denoiser(name: str) -> Preconditioned:
    """The golden case of that name, with invented weights."""
    case = GOLDEN["cases"][name]
    made = build_spec(case["class"], case["arguments"], {}, name)
    network = load_component("networks", made.network).build(**made.options)
    return Preconditioned(invented(network), FAMILIES[made.family])


@torch.no_grad()
@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_a_network_computes_what_the_released_one_does(name):
    """Every 16th number of two images, at four noise levels, by github.com/NVlabs/edm."""
    case, denoise = GOLDEN["cases"][name], denoiser(name)
    side = case["arguments"]["img_resolution"]
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3]) if case["arguments"].get("label_dim") else None
    for sigma, wanted in case["denoised"].items():
        level = torch.tensor(float(sigma))
        got = denoise(x * (level**2 + 0.25).sqrt(), level, labels).flatten()[::16]
        expected = torch.tensor(wanted)
        assert (got - expected).norm() <= 1e-5 * expected.norm()


@torch.no_grad()
@pytest.mark.skipif(not SHARED.is_dir(), reason="the large golden files are at hand in CI only")
@pytest.mark.parametrize("name", ["edm-ddpmpp-cond", "vp-ddpmpp-uncond"])
def test_golden_files_are_reproduced_at_every_level(name):
    with safe_open(SHARED / f"{name}.safetensors", "pt") as file:
        about = file.metadata()
    tensors = load_file(SHARED / f"{name}.safetensors")
    made = build_spec(about["class"], json.loads(about["arguments"]), tensors, name)
    network = load_component("networks", made.network).build(**made.options).eval()
    network.load_state_dict(dict(made.tensors))
    denoise = Preconditioned(network, FAMILIES[made.family])
    expected = load_file(SHARED / f"{name}.expected.safetensors")
    for sigma, wanted in zip(expected["sigmas"], expected["denoised"], strict=True):
        got = denoise(expected["noise"] * (sigma**2 + 0.25).sqrt(), sigma, expected.get("labels"))
        assert (got - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("name", ["ncsnpp", "adm"])
def test_its_gradient_has_a_gradient_as_guidance_needs(name):
    """Against central differences in float64: h^2 and 1e-16 / h at h = 1e-5 are both below 1e-9."""
    denoise = denoiser(name).double()
    x = torch.randn(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    way = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    sigma = torch.tensor(0.7, dtype=torch.float64)

    def pull(at):
        at = at.detach().requires_grad_()
        return at, torch.autograd.grad(denoise(at, sigma).square().sum(), at, create_graph=True)[0]

    at, first = pull(x)
    (second,) = torch.autograd.grad((first * way).sum(), at)
    step = 1e-5
    numeric = (pull(x + step * way)[1] - pull(x - step * way)[1]) / (2 * step)
    torch.testing.assert_close(second, numeric.detach(), rtol=1e-6, atol=1e-6)


def test_the_padding_of_a_strided_convolution_is_that_of_the_release():
    """A kernel whose middle alone is 1 takes each other pixel: the first ones where zeros are on
    both sides, the second ones where they are behind only."""
    image = torch.arange(16.0).view(1, 1, 4, 4)
    for resample, first in (("even", 0), ("uneven", 5)):
        layer = adm_unet(
            channels=32, multipliers=(1, 1), resample=resample, min_channels_per_group=1
        )._make_downsample(1)
        (kernel, bias) = layer.parameters()
        with torch.no_grad():
            kernel.zero_()[:, :, 1, 1] = 1
            bias.zero_()
        assert layer(image)[0, 0].flatten().tolist() == [first, first + 2, first + 8, first + 10]


def test_groups_that_cannot_be_equal_and_an_unknown_resampling_are_refused():
    with pytest.raises(ValueError, match="48 channels make no 32 equal groups"):
        group_norm(48, min_channels_per_group=1)
    with pytest.raises(ValueError, match="resample is 'evn'; did you mean 'even'"):
        adm_unet(resample="evn")


def test_none_and_the_null_label_are_no_label():
    """As None and as the null label, which is the number behind the last."""
    like = torch.zeros(2, 1)
    assert torch.equal(one_hot_labels(None, 3, like), torch.zeros(2, 3))
    assert one_hot_labels(torch.tensor([3, 1]), 3, like).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_waves_have_the_cosine_first_and_end_at_a_ten_thousandth():
    """Of four numbers at t = 1: cos 1, cos 1/10000, sin 1, sin 1/10000."""
    time = torch.ones(1, dtype=torch.float64)
    expected = torch.tensor([[0.5403023, 1.0, 0.8414710, 1e-4]]).double()
    torch.testing.assert_close(
        sinusoidal_embedding(time, 4, endpoint=True), expected, atol=1e-7, rtol=0
    )
    assert sinusoidal_embedding(time, 4)[0, 1].item() == pytest.approx(
        torch.tensor(0.01).cos().item()
    )


def test_a_filter_of_two_taps_halves_by_means_and_doubles_by_copies():
    image = torch.arange(4.0).view(1, 1, 2, 2)
    assert ResamplingConv(1, 1, 0, "down")(image).item() == 1.5
    doubled = ResamplingConv(1, 1, 0, "up")(image)[0, 0]
    assert torch.equal(doubled, image[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_block_without_weights_leaves_the_image_and_shrinks_it():
    """Both sums, of the convolutions and of the attention, are multiplied by sqrt(1/2)."""
    block = Block(8, 8, 4, heads=1, skip_scale=0.5**0.5).eval()
    for layer in (block.conv1, block.proj):
        torch.nn.init.zeros_(layer.weight)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(block(x, torch.zeros(2, 4)), x / 2)
