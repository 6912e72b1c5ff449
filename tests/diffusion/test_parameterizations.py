"""A perfect network of each family makes a perfect denoiser."""

import pytest
import torch

from scoreag.diffusion.parameterizations import (
    Preconditioned,
    alphas_cumprod_to_sigmas,
    cosine_alphas_cumprod,
    ddpm,
    edm,
    flow,
    iddpm,
    ncsn,
    smld,
    unit_score,
    v_prediction,
    x0_prediction,
)

ALPHAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)
pytestmark = pytest.mark.usefixtures("in_double_precision")


class Oracle(torch.nn.Module):
    """Returns ``target`` for any input, and records the input."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, time, labels):
        self.input = x, time
        return self.target


def draws():
    return torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.02, 0.7, 30.0])
@pytest.mark.parametrize(
    "family, sign", [(ddpm(ALPHAS), 1), (ncsn(), -1), (smld(), -1)], ids=["ddpm", "ncsn", "smld"]
)
def test_a_network_that_knows_the_noise_returns_the_image(family, sign, sigma):
    x0, n = draws()
    denoise = Preconditioned(Oracle(sign * n), family)
    assert torch.allclose(denoise(x0 + sigma * n, torch.tensor(sigma)), x0, atol=1e-6 * sigma)


@pytest.mark.parametrize("sigma", [0.02, 0.7, 30.0])
def test_a_network_that_knows_v_returns_the_image(sigma):
    """``v = a n - b x0``, ``a = (1 + s^2)^(-1/2)``, ``b = s a``; its input is ``a (x0 + s n)``."""
    x0, n = draws()
    a = (1 + sigma**2) ** -0.5
    oracle = Oracle(a * n - sigma * a * x0)
    denoise = Preconditioned(oracle, v_prediction(ALPHAS))
    x = x0 + sigma * n
    assert torch.allclose(denoise(x, torch.tensor(sigma)), x0, atol=1e-6 * sigma)
    assert torch.allclose(oracle.input[0], a * x)


@pytest.mark.parametrize("sigma", [0.02, 0.7, 30.0])
def test_a_network_that_knows_the_image_returns_it(sigma):
    x0, n = draws()
    oracle = Oracle(x0)
    denoise = Preconditioned(oracle, x0_prediction(ALPHAS))
    x = x0 + sigma * n
    assert torch.equal(denoise(x, torch.tensor(sigma)), x0)
    assert torch.allclose(oracle.input[0], (1 + sigma**2) ** -0.5 * x)


@pytest.mark.parametrize("sigma, share", [(1 / 3, 0.25), (1.0, 0.5), (9.0, 0.9)])
def test_a_network_that_knows_the_flow_returns_the_image(sigma, share):
    """The network sees ``(1 - s) x0 + s n``, gets ``1000 s``, and returns ``n - x0``."""
    x0, n = draws()
    oracle = Oracle(n - x0)
    found = Preconditioned(oracle, flow())(x0 + sigma * n, torch.tensor(sigma))
    assert torch.allclose(found, x0)
    assert torch.allclose(oracle.input[0], (1 - share) * x0 + share * n)
    assert oracle.input[1].tolist() == pytest.approx([1000 * share] * 2)


@pytest.mark.parametrize("sigma", [0.02, 0.7, 30.0])
def test_a_network_that_knows_the_score_of_images_in_0_to_1_returns_the_image(sigma):
    """There the same noise is ``s n``, ``s = sigma / 2``, and its score is ``-n / s``."""
    x0, n = draws()
    oracle = Oracle(-2 * n / sigma)
    found = Preconditioned(oracle, unit_score())(x0 + sigma * n, torch.tensor(sigma))
    assert torch.allclose(found, x0, atol=1e-6 * sigma)
    assert oracle.input[1].tolist() == pytest.approx([sigma / 2] * 2)


def test_edm_may_predict_minus_its_target():
    plus, minus = (edm(0.7, sign)(torch.tensor(2.0)) for sign in (1, -1))
    assert plus.c_out == -minus.c_out and plus.c_skip == minus.c_skip and plus.c_out > 0


@pytest.mark.parametrize(
    "sigma, rounded, exact", [(0.0016, -1.0, -0.751), (0.004, 0.0, -0.3775), (1e6, 999.0, 999.0)]
)
def test_the_time_of_iddpm_is_the_nearest_level_as_released(sigma, rounded, exact):
    """By hand: ``u_1000 = 0`` has time -1, and ``u_999``, of time 0, is (1 / r - 1)^(1/2) with
    ``r = sin^2(999 pi / 2016) / sin^2(1000 pi / 2016)``, which is 0.0064254."""
    level = torch.tensor([sigma])
    assert iddpm()(level).c_noise.item() == rounded
    assert iddpm(rounded=False)(level).c_noise.item() == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    "sigma, number", [(200.0, 0), (100.0, 0), (2**0.5, 500), (0.02, 999), (0.001, 999)]
)
def test_the_time_of_smld_is_the_number_of_the_nearest_level_the_largest_first(sigma, number):
    """In the middle of 0.02 and 100, in equal ratios, is sqrt 2; 499.5 is rounded to even."""
    assert smld()(torch.tensor([sigma])).c_noise.item() == number


def test_time_scale_multiplies_the_time():
    """Of 4000 steps with time scale 1/4, step 2000 has time 500."""
    alphas = cosine_alphas_cumprod(4000)
    level = alphas_cumprod_to_sigmas(alphas)[2000:2001]
    assert ddpm(alphas, 0.25)(level).c_noise.item() == pytest.approx(500, abs=1e-9)
    assert ddpm(alphas)(level).c_noise.item() == pytest.approx(2000, abs=1e-9)


def test_each_image_of_a_batch_may_have_its_own_level():
    x0, n = draws()
    sigmas = torch.tensor([0.1, 5.0])
    denoise = Preconditioned(Oracle(n), ddpm(ALPHAS))
    assert torch.allclose(denoise(x0 + sigmas[:, None, None, None] * n, sigmas), x0)


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_the_input_of_a_ddpm_network_is_that_of_its_training(t):
    """x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n, at the integer time t."""
    x0, n = draws()
    sigma = (1 / ALPHAS[t] - 1).sqrt()
    oracle = Oracle(n)
    Preconditioned(oracle, ddpm(ALPHAS))(x0 + sigma * n, sigma)
    x_t, time = oracle.input
    assert torch.allclose(x_t, ALPHAS[t].sqrt() * x0 + (1 - ALPHAS[t]).sqrt() * n)
    assert time.tolist() == pytest.approx([t, t], abs=1e-6)


def test_between_two_steps_of_ddpm_the_time_is_linear_in_log_sigma():
    low, high = ((1 / ALPHAS[t] - 1).sqrt() for t in (100, 101))
    assert ddpm(ALPHAS)(low**0.75 * high**0.25).c_noise.item() == pytest.approx(100.25, abs=1e-6)


@pytest.mark.parametrize("sigma, time", [(2.0, 0.0), (2.0 * 2.718281828459045, 1.0)])
def test_the_time_of_ncsn_is_the_logarithm_of_half_the_level(sigma, time):
    c = ncsn()(torch.tensor(sigma))
    assert c.c_noise.item() == pytest.approx(time) and c.c_in == 1


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_input_and_target_of_an_edm_network_have_unit_variance(sigma):
    """For data of variance sigma_data^2 both F's input and its target have variance 1."""
    c = edm(sigma_data=0.5)(torch.tensor(sigma))
    var_x, cov = 0.25 + sigma**2, 0.25  # Var[x], Cov[x0, x]
    assert c.c_in**2 * var_x == pytest.approx(1)
    assert (0.25 - 2 * c.c_skip * cov + c.c_skip**2 * var_x) / c.c_out**2 == pytest.approx(1)


def test_edm_at_its_own_noise_level_by_hand():
    """sigma = sigma_data = 1/2: skip 1/2, out and inner 1 / sqrt 8 and sqrt 2, time -ln(2)/4."""
    c = edm(sigma_data=0.5)(torch.tensor(0.5))
    found = [c.c_skip.item(), c.c_out.item(), c.c_in.item(), c.c_noise.item()]
    assert found == pytest.approx([0.5, 8**-0.5, 2**0.5, -0.17328679513998632])
