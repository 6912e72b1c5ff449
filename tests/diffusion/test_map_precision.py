import pytest
import torch

import scoreag
import tiny
from scoreag.diffusion.map_precision import with_bfloat16_maps
from scoreag.diffusion.networks.adm_unet import AdmUNet
from scoreag.diffusion.networks.song_unet import SongUNet
from scoreag.diffusion.networks.unet import UNet
from scoreag.diffusion.parameterizations import Preconditioned, edm

SMALL = {"image_shape": tiny.SHAPE, "classes": 3}
NETWORKS = {
    "unet": lambda: UNet(**SMALL, channels=32, multipliers=(1, 2), attention_at=(2,)),
    "song_unet": lambda: SongUNet(**SMALL, channels=32, multipliers=(1, 2), blocks=1,
                                  attention_at=(4,), encoder="residual", time="fourier"),
    "adm_unet": lambda: AdmUNet(**SMALL, channels=32, multipliers=(1, 2), blocks=1,
                                attention_at=(4,)),
}  # fmt: skip
EPS = 2.0**-8  # half the distance from 1 to the next bfloat16


@pytest.fixture(params=NETWORKS)
def model(request):
    return Preconditioned(tiny.filled(NETWORKS[request.param](), 0), edm())


def states(count: int = 4) -> torch.Tensor:
    return torch.randn(count, *tiny.SHAPE, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def network_part(model, x, sigma, labels):
    """``F``, of ``D = c_skip x + c_out F``."""
    skip, out, *_ = model.family(sigma)
    return (model(x, sigma, labels) - skip * x) / out


def test_it_is_the_same_denoiser_up_to_the_rounding_of_maps(model):
    """Its error is a few roundings of the network's output, and not that of a rounded state."""
    x, sigma, labels = states(), torch.tensor(0.5), torch.tensor([0, 1, 2, 0])
    lower = with_bfloat16_maps(model)
    exact, rounded = (network_part(m, x, sigma, labels) for m in (model, lower))
    error = ((rounded - exact).norm() / exact.norm()).item()
    assert 0 < error < 16 * EPS
    assert lower(x, sigma, labels).dtype == torch.float32


def test_near_images_the_denoiser_keeps_the_precision_of_the_state(model):
    """At sigma = 0.002 the network's share of D is c_out, 0.002: so is its error."""
    x, sigma, labels = states(), torch.tensor(0.002), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        change = (with_bfloat16_maps(model)(x, sigma, labels) - model(x, sigma, labels)).abs().max()
        network = network_part(model, x, sigma, labels).abs().max()
    assert 0 < change < 0.002 * 32 * EPS * network


def test_noise_levels_are_not_rounded(model):
    """Two levels that are one number in bfloat16 give two embeddings."""
    x, labels = states(1), torch.tensor([1])
    seen = []
    lower = with_bfloat16_maps(model)
    lower.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        for sigma in (1.0, 1.002):
            lower(x, torch.tensor(sigma), labels)
    assert seen[0].dtype == torch.float32 and seen[0] != seen[1]


def test_the_model_that_it_is_made_of_is_left_as_it_is(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with_bfloat16_maps(model)
    assert all(torch.equal(before[name], w) for name, w in model.state_dict().items())
    assert all(w.dtype == torch.float32 for w in model.parameters())


def test_another_network_is_refused_with_what_to_do():
    model = Preconditioned(torch.nn.Conv2d(3, 3, 1), edm())
    with pytest.raises(ValueError, match=r"Conv2d computes in float32 only; leave out dtype"):
        with_bfloat16_maps(model)


def test_a_loaded_model_says_its_dtype(tmp_path):
    folder = tiny.write_score_model(tmp_path)
    assert scoreag.load_prior(folder, dtype="bf16").metadata["dtype"] == "bf16"
    assert "dtype" not in scoreag.load_prior(folder).metadata  # as before there was a choice
    with pytest.raises(ValueError, match=r"dtype is 'half'; expected float32 or bf16"):
        scoreag.load_prior(folder, dtype="half")


def test_gat_fools_the_same_images_and_changes_them_alike():
    images, labels = (part[:4] for part in scoreag.load_data("fashion-mnist:sample"))
    victim = scoreag.load_classifier("fashion-cnn")
    options = {"attack_scale": 160.0, "steps": 4, "x0_steps": 0, "sigma_start": 0.4}
    exact, lower = (
        scoreag.transform(
            scoreag.load_prior("fashion-small", dtype=dtype), victim, images, labels,
            batch_size=4, progress=False, guidance_scale=1.0, **options,
        )
        for dtype in ("float32", "bf16")
    )  # fmt: skip
    assert exact.success.all() and lower.success.all()
    apart, moved = (
        (exact.images - other).abs().flatten(1).mean(1) for other in (lower.images, images)
    )
    assert (apart > 0).all() and (apart < moved / 2).all()
