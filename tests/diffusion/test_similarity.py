"""Variances of the reconstruction, in Gaussian worlds whose posterior is known."""

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.guidance import guide
from scoreag.diffusion.likelihoods import VARIANCES, max_stable_sigma, mmps_denoiser, reconstruction
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import euler, heun
from worlds import Gaussian, assert_drawn_from

pytestmark = pytest.mark.usefixtures("in_double_precision")

NOISE = Noise(seed=0, image_ids=range(4))
IMAGES = Gaussian(  # the spread of variances that images have: 222 is CIFAR-10's largest
    mean=torch.zeros(4, 1), var=torch.tensor([[222.0], [10.0], [0.25], [0.002]])
)


def purified(denoise, y, sigmas, shape=(4, 4, 5000), sampler=heun):
    """The start has the spread of the true marginal, so that any error is the sampler's."""
    spread = (IMAGES.var + sigmas[0] ** 2).sqrt()
    x = y + spread * NOISE.fold_in("start").normal_like(torch.zeros(shape))
    return sampler.sample(denoise, x, sigmas, NOISE)


def test_exact_variance_gives_the_posterior_in_a_gaussian_world_from_80():
    """Four distinct variances: four steps of conjugate gradients solve the system."""
    y, precision = torch.tensor([[20.0], [-4.0], [0.5], [0.05]]), 30.0
    denoise = mmps_denoiser(IMAGES.denoise, y.expand(4, 4, 5000), precision, cg_steps=4)
    sigmas = karras(100)
    exact = IMAGES.posterior(y, 1 / precision)
    # at 80 the marginal given y is N(E[x0 | y], Var[x0 | y] + 80^2)
    spread = (exact.var + sigmas[0] ** 2).sqrt()
    x = exact.mean + spread * NOISE.fold_in("start").normal_like(torch.zeros(4, 4, 5000))
    assert_drawn_from(exact, heun.sample(denoise, x, sigmas, NOISE))


def test_exact_variance_is_bayes_rule_at_every_level():
    """The posterior's own denoiser, on paper: E[x0 | x, y] of a Gaussian."""
    y, precision = torch.tensor([[20.0], [-4.0], [0.5], [0.05]]), 30.0
    x = NOISE.normal_like(torch.zeros(4, 4, 2))
    guided = mmps_denoiser(IMAGES.denoise, y.expand(4, 4, 2), precision, cg_steps=4)
    for sigma in (0.01, 1.0, 80.0):
        level = torch.tensor(sigma)
        expected = IMAGES.posterior(y, 1 / precision).denoise(x, level)
        assert torch.allclose(guided(x, level), expected, rtol=1e-6, atol=1e-6)


def test_exact_variance_can_be_differentiated():
    x = NOISE.normal_like(torch.zeros(2, 4, 1).repeat(2, 1, 1))

    def guided(x, y):
        return mmps_denoiser(IMAGES.denoise, y, 3.0)(x, torch.tensor(0.7))

    y = NOISE.fold_in("y").normal_like(x).requires_grad_()
    assert torch.autograd.gradcheck(guided, (x.requires_grad_(), y))


def test_default_stays_bounded_in_a_gaussian_world_from_80():
    y = torch.tensor([[20.0], [-4.0], [0.5], [0.05]])
    denoise = guide(IMAGES.denoise, reconstruction(y, 100.0))
    x0 = purified(denoise, y, karras(18), sampler=euler)
    # never further from y than the prior and the measurement allow together
    assert ((x0 - y).abs() < 6 * (IMAGES.var.sqrt() + 0.1) + y.abs()).all()


@pytest.mark.parametrize("variance", ["constant", "widened"])
def test_constant_and_widened_variances_explode_from_80(variance):
    y = torch.zeros(4, 1)
    denoise = guide(IMAGES.denoise, reconstruction(y, 100.0, variance))
    x0 = purified(denoise, y, karras(18), sampler=euler)
    assert x0.abs().amax() > 1000


@pytest.mark.parametrize("variance", ["constant", "widened"])
def test_they_are_stable_below_the_reported_level(variance):
    """Errors in the direction of largest variance shrink from there, and grow from above."""
    sigmas = karras(18)
    level = max_stable_sigma(variance, 100.0, sigmas, pixels=3072)
    assert 0 < level < 80
    y = torch.zeros(4, 1)
    denoise = guide(IMAGES.denoise, reconstruction(y, 100.0, variance))
    inside = sigmas[sigmas <= level + 1e-9]
    x = inside[0] * torch.ones(1, 4, 1)
    for k in range(1, len(inside)):
        step = euler.sample(denoise, x, inside[k - 1 : k + 1], Noise(0, [0]))
        assert step[0, 0].abs() <= x[0, 0].abs() + 1e-12
        x = step
    above = sigmas[sigmas > level][-1:]
    x = torch.ones(1, 4, 1)
    grown = euler.sample(denoise, x, torch.cat([above, inside[:1]]), Noise(0, [0]))
    assert grown[0, 0].abs() > 1


@pytest.mark.parametrize(
    "name, expected",
    [("constant", 0.01), ("widened", 0.01 + 0.2), ("damped", (0.01 + 0.2) * 5)],
)
def test_variances_by_hand(name, expected):
    """Precision 100, sigma 1 and sd 1/2: r^2 = 1/5, and 1 + sigma^2 / sd^2 = 5."""
    assert float(VARIANCES[name](torch.tensor(1.0), 100.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name, expected",
    [("constant", 0.01), ("widened", 0.01 + 0.8), ("damped", (0.01 + 0.8) * 1.25)],
)
def test_variances_of_other_pixels_by_hand(name, expected):
    """Precision 100, sigma 1 and sd 2: r^2 = 4/5, and 1 + sigma^2 / sd^2 = 5/4."""
    sigma = torch.tensor(1.0)
    assert float(VARIANCES[name](sigma, 100.0, 2.0)) == pytest.approx(expected)
    found = reconstruction(torch.ones(1, 3), 100.0, name, sigma_data=2.0)(torch.zeros(1, 3), sigma)
    assert found.item() == pytest.approx(-1.5 / expected)


def test_the_largest_variance_grows_with_that_of_a_pixel_and_with_their_number():
    """0.29 sd^2 pixels: twice the deviation is four times the pixels."""
    sigmas = karras(100)
    level = max_stable_sigma("constant", 100.0, sigmas, pixels=3, sigma_data=1.0)
    assert level == max_stable_sigma("constant", 100.0, sigmas, pixels=12)
    assert level != max_stable_sigma("constant", 100.0, sigmas, pixels=3)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 10.0, 80.0])
def test_default_gain_is_below_one(sigma):
    """gain = sigma^2 J / v with J at most 1."""
    v = VARIANCES["damped"](torch.tensor(sigma), 1e6)
    assert sigma**2 / v < 1


def test_similarity_zero_ignores_the_reference():
    x0, far = torch.zeros(1, 3), torch.ones(1, 3)
    assert torch.equal(reconstruction(far, 0.0)(x0, torch.tensor(1.0)), torch.zeros(1))
