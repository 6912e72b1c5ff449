"""Samplers of several steps and of restarts: orders are measured, steps are worked out by hand."""

import math

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import euler, heun, ipndm, restart, unipc
from scoreag.diffusion.solver import ode_derivative
from worlds import assert_drawn_from

pytestmark = pytest.mark.usefixtures("in_double_precision")

NOISE = Noise(seed=0, image_ids=range(4))
CASES = [(ipndm, 1, 1), (ipndm, 2, 2), (unipc, 1, 2), (unipc, 2, 3), (unipc, 3, 4)]


def error(sampler, order, world, steps):
    sigmas = karras(steps, sigma_min=0.1, sigma_max=10.0)[:-1]
    x = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 10))
    exact = world.flow(x, sigmas[0], sigmas[-1])
    return (sampler.sample(world.denoise, x, sigmas, NOISE, order=order) - exact).abs().max().item()


@pytest.mark.parametrize("sampler, option, order", CASES)
def test_error_falls_at_the_order_of_the_method(sampler, option, order, world):
    coarse, fine = (error(sampler, option, world, steps) for steps in (400, 800))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_steps_of_ipndm_have_their_order_after_an_exact_start(order, world):
    """Its first steps are Euler's, and so on; here they are those of the exact flow."""

    def error(steps):
        sigmas = karras(steps, sigma_min=0.1, sigma_max=10.0)[:-1]
        start = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 10))
        exact = [world.flow(start, sigmas[0], sigma) for sigma in sigmas]
        slopes = [ode_derivative(world.denoise, exact[i], sigmas[i]) for i in range(order - 1)]
        state = torch.stack([exact[order - 1], *slopes[::-1]], 1)
        for i in range(order - 1, len(sigmas) - 1):
            weights = ipndm.adams_bashforth_weights(sigmas, i, order)
            state = ipndm.step(world.denoise, state, sigmas, i, weights)
        return (state[:, 0] - exact[-1]).abs().max().item()

    assert math.log2(error(200) / error(400)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("sampler", [ipndm, unipc, restart], ids=["ipndm", "unipc", "restart"])
def test_samples_have_the_moments_of_the_data(sampler, world):
    sigmas = karras(60, sigma_max=40.0)
    x = sigmas[0] * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 1000))
    assert_drawn_from(world, sampler.sample(world.denoise, x, sigmas, NOISE))


def test_ipndm_with_equal_steps_has_the_published_weights():
    """Adams-Bashforth of order 4: (55, -59, 37, -9) / 24."""
    levels = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    weights = ipndm.adams_bashforth_weights(levels, 3, 4)
    assert torch.allclose(-24 * weights, torch.tensor([55.0, -59.0, 37.0, -9.0]).double())


def test_ipndm_of_order_one_is_euler(world):
    sigmas = karras(9, sigma_max=10.0)
    x = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 10))
    found = ipndm.sample(world.denoise, x, sigmas, NOISE, order=1)
    assert torch.allclose(found, euler.sample(world.denoise, x, sigmas, NOISE))


def test_unipc_by_hand():
    """Levels 4, 2, 1 and D(x) = x / 2, predictor of order 1, from x = 16.

    D = 8 and the prediction is 8 + (16 - 8) / 2 = 12, where D = 6.  With z = -ln 2 the corrector's
    weight of D_1 - D_0 = -2 is phi_2(z) / phi_1(z) = .557305, so x = 12 - .5 * 2 * .557305, and the
    last step goes half of the way to 6: 8.721348.
    """
    sigmas, noise = torch.tensor([4.0, 2.0, 1.0]), Noise(0, [0])
    x = unipc.sample(lambda x, sigma: x / 2, torch.tensor([[16.0]]), sigmas, noise, order=1)
    assert x.item() == pytest.approx(6 + (12 - 0.5573049591 - 6) / 2)


def test_unipc_ends_at_the_estimate_of_the_denoiser():
    calls = []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return x / (1 + sigma**2)

    x = unipc.sample(denoise, torch.tensor([[3.0]]), torch.tensor([2.0, 1.0, 0.0]), Noise(0, [0]))
    assert calls == [2.0, 1.0]
    predicted = 0.6 + (3 - 0.6) / 2  # from x = 3, D = .6, half of the way
    assert x.item() == pytest.approx(predicted / 2)


def test_without_restarts_it_is_heun(world):
    sigmas = karras(9, sigma_max=10.0)
    x = 10 * NOISE.fold_in("start").normal_like(torch.zeros(4, 3, 10))
    found = restart.sample(world.denoise, x, sigmas, NOISE, n_restarts=0)
    assert torch.equal(found, heun.sample(world.denoise, x, sigmas, NOISE))


def test_a_restart_goes_up_from_its_level_and_down_again():
    """Noise levels in the order in which the denoiser meets them: Heun asks at both ends."""
    met = []

    def denoise(x, sigma):
        met.append(round(float(sigma), 6))
        return 0 * x

    sigmas = torch.tensor([2.0, 1.0, 0.5, 0.1, 0.0])
    restart.sample(
        denoise, torch.ones(1, 2), sigmas, Noise(0, [0]),
        n_restarts=2, restart_steps=1, s_tmin=0.4, s_tmax=1.5,
    )  # fmt: skip
    assert met == [2.0, 1.0, 1.0, 0.5, *2 * [1.5, 0.5], 0.5, 0.1, 0.1]


def test_each_restart_has_its_own_noise_of_the_missing_variance():
    noise, shape = Noise(seed=0, image_ids=range(200)), (200, 1, 50)
    levels = (torch.tensor(0.5), torch.tensor(1.3))
    raised = [
        restart.add_noise(
            lambda x, sigma: x, torch.zeros(shape), *levels, noise.fold_in("restart", k)
        )
        for k in (0, 1)
    ]
    assert raised[0].std().item() == pytest.approx(1.2, rel=0.02)
    assert abs((raised[0] * raised[1]).mean().item()) < 0.05


@pytest.mark.parametrize(
    "sampler, options, said",
    [
        (ipndm, {"order": 5}, "ipndm's order is 5; write a whole number from 1 to 4"),
        (ipndm, {"order": True}, "order is True"),
        (unipc, {"order": 0}, "unipc's order is 0; write a whole number from 1 to 3"),
        (restart, {"n_restarts": -1}, "n_restarts is -1; write a whole number of at least 0"),
        (restart, {"restart_steps": 0}, "restart_steps is 0"),
        (restart, {"s_tmax": math.inf}, "s_tmax is inf; write a noise level"),
        (restart, {"s_tmin": 0.5, "s_tmax": 0.3}, "from s_tmin 0.5 to s_tmax 0.3; write a lower"),
        (restart, {"s_tmin": 1e-4, "s_tmax": 1e-3}, "no noise level between 0 and s_tmax 0.001"),
    ],
)
def test_an_option_that_cannot_work_is_answered(sampler, options, said):
    call = (lambda x, sigma: x, torch.zeros(1, 2), karras(4), Noise(0, [0]))
    with pytest.raises(ValueError, match=said):
        sampler.sample(*call, **options)
