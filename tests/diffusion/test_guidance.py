"""Guidance is Bayes' rule: against the known posteriors of Gaussian worlds."""

import math
from functools import partial

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.gradient_fields import normalize_gradient
from scoreag.diffusion.guidance import (
    JACOBIANS,
    X0_ESTIMATES,
    guide,
    restrict_to_interval,
    sum_conditions,
    sum_log_likelihoods,
)
from scoreag.diffusion.likelihoods import reconstruction
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import heun
from worlds import assert_drawn_from

pytestmark = pytest.mark.usefixtures("in_double_precision")

NOISE = Noise(seed=0, image_ids=range(4))
SHAPE = (4, 3, 5000)


@pytest.fixture
def x():
    return NOISE.normal_like(torch.zeros(4, 3, 2))


def toward(y, precision=2.0):
    return reconstruction(y, precision, "constant")


def test_guided_score_is_the_sum_of_two_scores(world, x):
    sigma, y = torch.tensor(0.7), torch.ones(3, 2)
    guided = guide(world.denoise, toward(y))(x, sigma)

    d_denoise = world.var / (world.var + sigma**2)
    likelihood_score = 2.0 * (y - world.denoise(x, sigma)) * d_denoise
    score = (world.denoise(x, sigma) - x) / sigma**2
    assert torch.allclose((guided - x) / sigma**2, score + likelihood_score)


def test_exact_likelihood_gives_the_exact_posterior(world):
    """p(y | x) is N(y; D(x), var_y + Var[x0 | x]): with that variance nothing is approximate."""
    y, var_y = torch.tensor([[1.0], [-0.5], [0.2]]), 0.1

    def log_likelihood(x0, sigma):
        var = var_y + world.var * sigma**2 / (world.var + sigma**2)
        return -0.5 * ((y - x0) ** 2 / var).flatten(1).sum(1)

    sigmas = karras(200, sigma_max=40.0)
    x = sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(SHAPE))
    x0 = heun.sample(guide(world.denoise, log_likelihood), x, sigmas, NOISE)
    assert_drawn_from(world.posterior(y, var_y), x0)


def test_finite_difference_is_exact_where_the_jacobian_is_symmetric(world, x):
    """A Gaussian's denoiser is linear, so that even the finite difference is exact."""
    sigma, y = torch.tensor(0.7), torch.ones(3, 2)
    exact, symmetric = (
        guide(world.denoise, toward(y), jacobian=name)(x, sigma)
        for name in ("exact", "finite_difference")
    )
    assert torch.allclose(exact, symmetric, rtol=1e-9)


@pytest.mark.parametrize("deviation, share", [(0.5, 0.4), (2.0, 1.6)])
def test_identity_jacobian_assumes_the_variance_of_a_pixel(deviation, share, x):
    """By hand: sigma 1 and sd 1/2 give J = 1/5, so D_c = D + sigma^2 J 2 (y - D) = 0.6 x + 0.4 y,
    for a denoiser that changes nothing; sd 2 gives J = 4/5."""
    y = torch.ones(3, 2)
    straight = guide(lambda x, _: x, toward(y), jacobian="identity", sigma_data=deviation)
    assert torch.allclose(straight(x, torch.tensor(1.0)), (1 - share) * x + share * y)


@pytest.mark.parametrize("name", JACOBIANS)
def test_every_jacobian_can_be_differentiated(name, world, x):
    def guided(x, y):
        return guide(world.denoise, toward(y), jacobian=name)(x, torch.tensor(0.7))

    y = torch.ones(4, 3, 2)
    assert torch.autograd.gradcheck(guided, (x.requires_grad_(), y.requires_grad_()))


@pytest.mark.parametrize("name", JACOBIANS)
def test_guidance_builds_no_graph_without_gradients(name, world, x):
    with torch.no_grad():
        guided = guide(world.denoise, toward(x), jacobian=name)(x, torch.tensor(1.0))
    assert not guided.requires_grad


@pytest.mark.parametrize(
    "name, a, b",
    [("denoiser", 0.0, 1.0), ("ode_euler", 0.5, 0.5), ("sde_euler", 0.0, 1.0)],
)
def test_x0_estimates_have_their_limit_as_the_noise_vanishes(name, a, b):
    got = X0_ESTIMATES[name](torch.tensor(1e-5))
    assert [float(v) for v in got] == pytest.approx([a, b], abs=1e-4)


@pytest.mark.parametrize("name, share", [("ode_euler", 0.5), ("sde_euler", 1.0)])
def test_x0_estimates_take_one_step_in_vp_time(name, share):
    """The step of Song et al. (2021) in their own coordinates, at t = 0.6, x = 2, D = 0.3."""
    t, x, d = 0.6, 2.0, 0.3
    log_mean = -0.25 * t**2 * 19.9 - 0.5 * t * 0.1
    mean = math.exp(log_mean)
    sigma = math.sqrt(1 / mean**2 - 1)
    x_vp, beta = mean * x, 0.1 + t * 19.9
    score = (mean * d - x_vp) / (1 - mean**2)
    expected = x_vp + t * (beta / 2 * x_vp + share * beta * score)
    a, b = X0_ESTIMATES[name](torch.tensor(sigma))
    assert float(a * x + b * d) == pytest.approx(expected, rel=1e-9)


def test_guidance_acts_only_within_its_interval(world, x):
    guided = guide(world.denoise, toward(torch.ones(3, 2)), interval=(0.5, 2.0))
    for sigma, acts in ((0.4, False), (0.5, True), (2.0, True), (2.1, False)):
        level = torch.tensor(sigma)
        assert torch.equal(guided(x, level), world.denoise(x, level)) is not acts


def test_a_term_outside_its_interval_is_zero(world, x):
    y = torch.ones(3, 2)
    term = sum_log_likelihoods(toward(y), restrict_to_interval((5.0, 9.0), toward(-y)))
    alone = guide(world.denoise, toward(y))
    level = torch.tensor(1.0)
    assert torch.equal(guide(world.denoise, term)(x, level), alone(x, level))


def test_normalized_gradients_have_one_length_for_all_images(x):
    """With D the identity and sigma 1 the correction is the gradient itself."""
    y = torch.stack([torch.full((3, 2), 10.0**k) for k in range(4)])
    guided = guide(lambda x, sigma: x, normalize_gradient(toward(y), length=1.7))(
        x, torch.tensor(1.0)
    )
    assert torch.allclose((guided - x).flatten(1).norm(dim=1), torch.tensor(1.7))


def test_normalized_gradients_can_be_differentiated_twice(world, x):
    def guided(x):
        term = normalize_gradient(toward(torch.ones(3, 2)), length=1.7)
        return guide(world.denoise, term)(x, torch.tensor(0.7))

    assert torch.autograd.gradcheck(guided, x.requires_grad_())


def test_corrections_of_separate_conditions_add_up(world, x):
    """With one Jacobian, guiding by two terms at once is guiding by each and adding."""
    sigma, y, z = torch.tensor(0.7), torch.ones(3, 2), -2 * torch.ones(3, 2)
    apart = sum_conditions(
        world.denoise, *(partial(guide, log_likelihood=toward(t)) for t in (y, z))
    )
    together = guide(world.denoise, sum_log_likelihoods(toward(y), toward(z)))
    assert torch.allclose(apart(x, sigma), together(x, sigma))


@pytest.mark.parametrize("attacked", [False, True], ids=["drawn", "attacked"])
@pytest.mark.parametrize("name, calls", [("exact", 1), ("identity", 1), ("finite_difference", 3)])
def test_conditions_share_one_denoiser_call(name, calls, attacked, world, x):
    """``finite_difference`` needs one more call for each condition."""
    looks = []

    def watched(state, sigma):
        looks.append(state)
        return world.denoise(state, sigma)

    y, level = torch.ones(3, 2), torch.tensor(0.7)
    puts = [partial(guide, log_likelihood=toward(t), jacobian=name) for t in (y, -2 * y)]
    with torch.set_grad_enabled(attacked):
        together = sum_conditions(watched, *puts)(x, level)
    plain = world.denoise(x, level)
    assert len(looks) == calls and together.requires_grad is attacked
    assert torch.allclose(
        together, plain + sum(put(world.denoise)(x, level) - plain for put in puts)
    )


def test_shared_conditions_can_be_differentiated(world, x):
    def guided(x, y):
        puts = [partial(guide, log_likelihood=toward(t)) for t in (y, -2 * y)]
        return sum_conditions(lambda x, sigma: world.denoise(x, sigma).sin(), *puts)(
            x, torch.tensor(0.7)
        )

    y = torch.ones(4, 3, 2)
    assert torch.autograd.gradcheck(guided, (x.requires_grad_(), y.requires_grad_()))


def test_gradient_reaches_the_reference_of_the_guidance(world, x):
    """A white-box attack on a purifier needs d output / d reference: it is in a closure."""
    sigmas = karras(4, sigma_max=5.0)

    def purify(reference):
        guided = guide(world.denoise, toward(reference, precision=1.5))
        return heun.sample(guided, x, sigmas, NOISE, wrt=[reference])

    reference = NOISE.fold_in("reference").normal_like(x).requires_grad_()
    assert torch.autograd.gradcheck(purify, reference)


def test_a_hidden_input_is_refused(world, x):
    hidden = torch.zeros(4, 3, 2, requires_grad=True)
    guided = guide(world.denoise, toward(2 * hidden, precision=1.5))
    y = heun.sample(guided, x.requires_grad_(), karras(4, sigma_max=5.0), NOISE)
    with pytest.raises(RuntimeError, match=r"tensor of shape \(4, 3, 2\).*name it in wrt"):
        y.sum().backward()
