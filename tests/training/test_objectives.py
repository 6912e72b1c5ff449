"""What each family learns, against closed forms and in the words of the papers."""

import math

import pytest
import torch
from torch import nn

from scoreag.core.rng import Stream
from scoreag.diffusion import parameterizations
from scoreag.diffusion.parameterizations import Preconditioned
from scoreag.training.losses import build_denoising_loss, build_objective

VAR = 0.25
PIXELS = (1, 8, 8)
DRAWS = 4000


class Posterior(nn.Module):
    """``E[x0 | x]`` where every pixel of x0 is N(0, VAR); it remembers the noise levels."""

    def forward(self, x, sigma, labels):
        self.sigma = sigma
        gain = VAR / (VAR + sigma**2)
        return gain[:, None, None, None] * x


class Answer(nn.Module):
    """A network that says ``value`` whatever it is asked, and remembers the question."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, time, labels):
        self.x, self.time = x, time
        return torch.full_like(x, self.value)


def loss_at(model, family, count=DRAWS, images=None, seed=0):
    learnt = build_denoising_loss(build_objective(family, 0.5), null_label=1, hflip=False)
    if images is None:
        source = torch.Generator().manual_seed(5)
        x0 = math.sqrt(VAR) * torch.randn(count, *PIXELS, generator=source)
        images = (x0 + 1) / 2
    labels = torch.zeros(len(images), dtype=torch.int64)
    asked = learnt.prepare(images, labels, Stream(seed))
    return learnt.per_sample(model, asked), asked


@pytest.mark.parametrize(
    "family, minimum",
    [
        ("edm", lambda s: (s**2 + 0.25) / (0.25 * s**2) * VAR * s**2 / (VAR + s**2)),
        ("ddpm", lambda s: VAR / (VAR + s**2)),
        ("ddpm_cosine", lambda s: VAR / (VAR + s**2)),
        ("vp", lambda s: VAR / (VAR + s**2)),
        ("ncsn", lambda s: VAR / (VAR + s**2)),
    ],
)
def test_the_true_posterior_mean_has_the_least_loss(family, minimum):
    """``Var[x0 | x] = v s^2 / (v + s^2)``; of the noise, ``Var[n | x] = v / (v + s^2)``.

    EDM's is 1 at every level, since its weight is the inverse of that where v = sd^2.
    """
    model = Posterior()
    rows, _ = loss_at(model, family)
    expected = minimum(model.sigma.double())
    tolerance = 5 * (expected * math.sqrt(2 / 64)).square().mean().sqrt() / math.sqrt(DRAWS)
    assert rows.double().mean().item() == pytest.approx(
        expected.mean().item(), abs=tolerance.item()
    )


@pytest.mark.parametrize("family, sign", [("ddpm", 1), ("ddpm_cosine", 1), ("vp", 1), ("ncsn", -1)])
def test_the_simple_losses_are_errors_of_the_noise(family, sign):
    """Ho et al. (2020), eq. 14, ``|n - F|^2``; the network of NCSN says ``-n``."""
    network = Answer(0.3)
    denoiser = Preconditioned(network, build_objective(family, 0.5).family)
    rows, (x0, x, sigma, _, _) = loss_at(denoiser, family, 50)
    n = (x - x0) / sigma[:, None, None, None]
    expected = (sign * n - 0.3).square().flatten(1).mean(1)
    # where sigma is small, n comes out of x - x0 with rounding of 1e-7 / sigma
    torch.testing.assert_close(rows, expected, rtol=1e-3, atol=1e-3)


def test_ddpm_is_asked_at_the_step_of_its_noise():
    """``sqrt(abar) x0 + sqrt(1 - abar) n`` at the whole number t, of 1000 betas 1e-4 to 0.02."""
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000).double(), 0)
    network = Answer(0.0)
    _, (x0, x, sigma, _, _) = loss_at(Preconditioned(network, build_objective("ddpm", 0.5).family),
                                      "ddpm", 300)  # fmt: skip
    t = network.time.round().long()
    torch.testing.assert_close(network.time, t.float(), atol=2e-2, rtol=0)
    assert 0 <= t.min() < 30 and 970 < t.max() <= 999
    kept, share = alphas[t].sqrt().float(), (1 - alphas[t]).sqrt().float()
    n = (x - x0) / sigma[:, None, None, None]
    question = kept[:, None, None, None] * x0 + share[:, None, None, None] * n
    torch.testing.assert_close(network.x, question, atol=1e-4, rtol=1e-4)


def test_every_step_of_ddpm_is_as_likely():
    """A thousand steps in ten parts: each has a tenth, to five standard errors."""
    sigma = build_objective("ddpm", 0.5).sample_sigma(50_000, Stream(0))
    edges = parameterizations.alphas_cumprod_to_sigmas(parameterizations.linear_alphas_cumprod())[
        99::100
    ].float()
    shares = torch.bucketize(sigma, edges).bincount(minlength=10)[:10] / len(sigma)
    assert (shares - 0.1).abs().max() < 5 * math.sqrt(0.09 / len(sigma))


@pytest.mark.parametrize("options, mean, deviation", [((), -1.2, 1.2), (((-0.4, 1.0),), -0.4, 1.0)])
def test_the_logarithm_of_edm_s_levels_has_the_mean_and_the_deviation_asked_for(
    options, mean, deviation
):
    """To five standard errors: of a mean sd / n^(1/2), of a deviation sd / (2 n)^(1/2)."""
    found = build_objective("edm", 0.5, *options).sample_sigma(20_000, Stream(0)).log()
    error = 5 * deviation / math.sqrt(20_000)
    assert found.mean().item() == pytest.approx(mean, abs=error)
    assert found.std().item() == pytest.approx(deviation, abs=error / math.sqrt(2))


def test_the_levels_of_ncsn_have_equal_ratios():
    levels = parameterizations.geometric_sigmas()
    ratios = levels[1:] / levels[:-1]
    assert levels[0].item() == pytest.approx(0.02) and levels[-1].item() == pytest.approx(100)
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    drawn = build_objective("ncsn", 0.5).sample_sigma(20_000, Stream(0))
    near = (drawn[:, None] - levels.float()).abs().min(1).values
    assert len(drawn.unique()) == 232 and (near <= 1e-6 * drawn).all()


def test_times_of_vp_are_uniform():
    """``ln(1 + sigma^2) = 0.1 t + 9.95 t^2`` solved for t by hand."""
    sigma = build_objective("vp", 0.5).sample_sigma(20_000, Stream(0)).double()
    total = torch.log1p(sigma**2)
    t = (-0.1 + (0.01 + 4 * 9.95 * total).sqrt()) / (2 * 9.95)
    assert t.mean().item() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 20_000))
    assert t.var().item() == pytest.approx(1 / 12, rel=0.03)
    time = parameterizations.vp()(sigma).c_noise
    torch.testing.assert_close(time, 999 * t, atol=1e-6, rtol=1e-9)


def test_the_cosine_schedule_by_hand():
    """Halfway: ``cos^2(0.508 / 1.008 pi / 2) / cos^2(0.008 / 1.008 pi / 2)``."""
    alphas = parameterizations.cosine_alphas_cumprod()
    expected = (
        math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )
    assert alphas[499].item() == pytest.approx(expected, rel=1e-9)
    assert (alphas[1:] / alphas[:-1]).min().item() == pytest.approx(0.001)


def test_linear_alphas_by_hand():
    """Three steps with betas 0.1, 0.2, 0.3: 0.9, 0.72, 0.504."""
    assert parameterizations.linear_alphas_cumprod(3, 0.1, 0.3).tolist() == pytest.approx(
        [0.9, 0.72, 0.504]
    )


def test_a_wrong_family_is_refused():
    with pytest.raises(ValueError, match="no family 'ddmp'; did you mean 'ddpm'"):
        build_objective("ddmp", 0.5)
