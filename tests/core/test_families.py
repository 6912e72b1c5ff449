"""A family is right when a network that does its job perfectly makes a perfect denoiser."""

import pytest
import torch

from scoreag.core.denoiser import Preconditioned
from scoreag.core.families import ddpm, edm, ncsn

ALPHAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().add(1).cumprod(0)
pytestmark = pytest.mark.usefixtures("in_double_precision")


class Oracle(torch.nn.Module):
    """Answers ``target`` whatever it is asked, and remembers the question."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, time, labels):
        self.asked = x, time
        return self.target


def draws():
    return torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.02, 0.7, 30.0])
@pytest.mark.parametrize("family, sign", [(ddpm(ALPHAS), 1), (ncsn(), -1)], ids=["ddpm", "ncsn"])
def test_knowing_the_noise_gives_back_the_image(family, sign, sigma):
    x0, n = draws()
    denoise = Preconditioned(Oracle(sign * n), family)
    assert torch.allclose(denoise(x0 + sigma * n, torch.tensor(sigma)), x0, atol=1e-6 * sigma)


def test_each_image_of_a_batch_may_have_its_own_level():
    x0, n = draws()
    sigmas = torch.tensor([0.1, 5.0])
    denoise = Preconditioned(Oracle(n), ddpm(ALPHAS))
    assert torch.allclose(denoise(x0 + sigmas[:, None, None, None] * n, sigmas), x0)


@pytest.mark.parametrize("t", [0, 1, 500, 999])
def test_ddpm_asks_the_network_what_it_was_trained_on(t):
    """x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n, at the integer time t."""
    x0, n = draws()
    sigma = (1 / ALPHAS[t] - 1).sqrt()
    oracle = Oracle(n)
    Preconditioned(oracle, ddpm(ALPHAS))(x0 + sigma * n, sigma)
    x_t, time = oracle.asked
    assert torch.allclose(x_t, ALPHAS[t].sqrt() * x0 + (1 - ALPHAS[t]).sqrt() * n)
    assert time.tolist() == pytest.approx([t, t], abs=1e-6)


def test_between_two_steps_of_ddpm_the_time_is_linear_in_log_sigma():
    low, high = ((1 / ALPHAS[t] - 1).sqrt() for t in (100, 101))
    assert ddpm(ALPHAS)(low**0.75 * high**0.25).time.item() == pytest.approx(100.25, abs=1e-6)


@pytest.mark.parametrize("sigma, time", [(2.0, 0.0), (2.0 * 2.718281828459045, 1.0)])
def test_ncsn_is_told_the_logarithm_of_half_the_level(sigma, time):
    c = ncsn()(torch.tensor(sigma))
    assert c.time.item() == pytest.approx(time) and c.inner == 1


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_edm_shows_its_network_numbers_of_unit_size(sigma):
    """For data of variance sigma_data^2 both F's input and its target have variance 1."""
    c = edm(sigma_data=0.5)(torch.tensor(sigma))
    var_x, cov = 0.25 + sigma**2, 0.25  # Var[x], Cov[x0, x]
    assert c.inner**2 * var_x == pytest.approx(1)
    assert (0.25 - 2 * c.skip * cov + c.skip**2 * var_x) / c.out**2 == pytest.approx(1)


def test_edm_at_its_own_noise_level_by_hand():
    """sigma = sigma_data = 1/2: skip 1/2, out and inner 1 / sqrt 8 and sqrt 2, time -ln(2)/4."""
    c = edm(sigma_data=0.5)(torch.tensor(0.5))
    found = [c.skip.item(), c.out.item(), c.inner.item(), c.time.item()]
    assert found == pytest.approx([0.5, 8**-0.5, 2**0.5, -0.17328679513998632])
