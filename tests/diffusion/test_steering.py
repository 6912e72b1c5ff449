"""The energy of steering, by its definition and in closed form, and attackers beyond the bound."""

import math

import pytest
import torch
from scipy.stats import binom, norm

from scoreag.core.rng import Noise
from scoreag.diffusion import steering as steering_module
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import (
    ancestral,
    dpmpp_2m,
    edm_stochastic,
    euler_maruyama,
    restart,
)
from scoreag.diffusion.steering import Steering, finish

pytestmark = pytest.mark.usefixtures("one_thread", "same_starts")

SPREAD = 0.5  # of the data, N(0, SPREAD^2) in every direction
NOISY = [
    (ancestral, {}),
    (ancestral, {"recurrence": 2}),
    (dpmpp_2m, {"sde": True}),
    (euler_maruyama, {}),
    (edm_stochastic, {"s_churn": 30.0, "s_tmin": 0.01, "s_tmax": 100.0}),
    (edm_stochastic, {"s_churn": 4.0, "s_tmin": 0.3, "s_tmax": 3.0}),  # steps without noise
    (restart, {"s_tmax": 1.0}),
]


@pytest.fixture
def same_starts():
    torch.manual_seed(0)


def exact(x, sigma):
    """``E[x0 | x]`` of the data."""
    return SPREAD**2 / (SPREAD**2 + sigma**2) * x


def pushed(x, sigma):
    """Guidance that bends with the state and with the level."""
    return exact(x, sigma) + 0.3 * sigma * torch.sin(3 * x + sigma) + 0.1


class Recorded(Steering):
    """It keeps by how much each draw was shifted, in deviations of the noise."""

    def diffuse(self, x, spread):
        reference = self._unsteered
        moved = super().diffuse(x, spread)
        shift = 0 * x if reference is None or not spread > 0 else (moved - reference) / spread
        self.__dict__.setdefault("shifts", []).append(shift)
        return moved


class Shifted(Noise):
    """Noise to which given shifts are added, in the order of the draws."""

    def normal_like(self, x):
        shifts = SHIFTS.pop(0) if SHIFTS else 0
        return super().normal_like(x) + shifts


SHIFTS = []


@pytest.mark.parametrize("sampler, options", NOISY)
@pytest.mark.parametrize("limit", [math.inf, 3.0])
def test_the_reference_with_shifted_noise_is_the_guided_chain(sampler, options, limit):
    """The definition: steering is nothing but a shift of the draws, and energy is its length."""
    x, sigmas = torch.randn(6, 1, 2, 3, dtype=torch.float64), karras(12).double()
    steering = Recorded(pushed, exact, limit)
    guided = finish(steering, sampler.sample(steering, x, sigmas, Noise(3, range(6)), **options))
    SHIFTS[:] = steering.shifts
    unguided = sampler.sample(exact, x, sigmas, Shifted(3, range(6)), **options)
    assert not SHIFTS
    torch.testing.assert_close(unguided, guided, rtol=1e-9, atol=1e-9)
    energy = torch.stack(steering.shifts).square().sum((0, 2, 3, 4))
    torch.testing.assert_close(steering.energy, energy, rtol=1e-9, atol=1e-12)
    assert (energy > 0.5).all() and (energy <= limit).all()
    plain = sampler.sample(exact, x, sigmas, Noise(3, range(6)), **options)
    assert (plain - guided).abs().amax() > 1e-7


def test_the_energy_of_the_ancestral_step_in_closed_form():
    """``u = sqrt(1 - r) delta / sigma'`` with ``r = (sigma' / sigma)^2``, of a constant delta."""
    delta, sigmas = 0.02, karras(9).double()
    steering = Steering(lambda x, sigma: exact(x, sigma) + delta, exact)
    x = torch.randn(2, 5, dtype=torch.float64)
    ancestral.sample(steering, x, sigmas[:-1], Noise(0, range(2)))
    high, low = sigmas[:-2], sigmas[1:-1]
    expected = 5 * ((1 - (low / high) ** 2) * delta**2 / low**2).sum().item()
    assert steering.energy.tolist() == pytest.approx([expected] * 2, rel=1e-9)


@pytest.mark.parametrize("sampler, options", NOISY)
def test_steering_after_the_last_draw_is_infinite_or_left_out(sampler, options):
    x, sigmas, noise = torch.randn(2, 4), karras(6), Noise(0, range(2))

    def late(x, sigma):
        return exact(x, sigma) + (0.1 if sigma < 0.003 else 0)

    counted, limited = Steering(late, exact), Steering(late, exact, 4.0)
    finish(counted, sampler.sample(counted, x, sigmas, noise, **options))
    found = finish(limited, sampler.sample(limited, x, sigmas, noise, **options))
    plain = sampler.sample(exact, x, sigmas, noise, **options)
    assert counted.energy.isinf().all()
    torch.testing.assert_close(found, plain)
    assert (limited.energy == 0).all()


@pytest.mark.parametrize("sampler, options", NOISY)
def test_no_path_exceeds_the_limit_and_no_shift_overflows(sampler, options):
    """Shifts whose squares are infinite in float32, in float32."""
    x, sigmas = 80 * torch.randn(64, 3, 4, 4), karras(10)
    steering = Steering(lambda x, sigma: exact(x, sigma) + 1e25, exact, 2.0)
    found = finish(steering, sampler.sample(steering, x, sigmas, Noise(1, range(64)), **options))
    assert found.isfinite().all()
    assert (steering.energy <= 2.0).all() and (steering.energy > 1.99).all()


def test_an_unguided_chain_has_no_energy_and_the_bits_of_a_plain_one():
    x, sigmas = torch.randn(2, 4), karras(6)
    for sampler, options in NOISY:
        steering = Steering(exact, exact)
        found = sampler.sample(steering, x, sigmas, Noise(0, range(2)), **options)
        assert torch.equal(finish(steering, found), found)
        assert torch.equal(found, sampler.sample(exact, x, sigmas, Noise(0, range(2)), **options))
        assert steering.energy.tolist() == [0, 0]


@pytest.mark.parametrize("sampler, options", NOISY)
def test_samplers_tell_of_each_of_their_draws(sampler, options):
    """And shares of the limit are of these: all of it is spent at the last."""
    sigmas = karras(10)
    count = len(sampler.draw_levels(sigmas.tolist(), **options))
    steering = Recorded(lambda x, sigma: exact(x, sigma) + 1e3, exact, 8.0,
                        [(i + 1) / count for i in range(count)])  # fmt: skip
    x = 80 * torch.randn(3, 5)
    finish(steering, sampler.sample(steering, x, sigmas, Noise(0, range(3)), **options))
    assert steering.n_draws == count
    spent = torch.stack([shift.double().square().sum(1) for shift in steering.shifts])
    spent = spent[spent.sum(1) > 0]
    assert torch.allclose(spent, torch.full((count, 3), 8.0 / count).double(), rtol=3e-2)
    assert torch.allclose(steering.energy, torch.full((3,), 8.0).double(), rtol=1e-2)


REPEATS = 100_000
SIGMAS = karras(8).double()


def outcomes(guided, budget, seed=0, shares=()):
    """Final states of many chains in one dimension, from the same start."""
    steering = Steering(guided, exact, budget**2, shares)
    start = torch.full((REPEATS, 1), 0.4, dtype=torch.float64)
    found = ancestral.sample(steering, start, SIGMAS, Noise(seed, range(REPEATS)))
    found = finish(steering, found)
    assert (steering.energy <= budget**2).all()
    return found[:, 0]


def unguided():
    """Mean and deviation of the final state: sums of draws with known gains."""
    mean, variance = 0.4, 0.0
    for high, low in zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True):
        ratio = (low / high) ** 2
        gain = SPREAD**2 / (SPREAD**2 + high**2) * (1 - ratio) + ratio
        mean, variance = gain * mean, gain**2 * variance + low**2 * (1 - ratio)
    return mean, math.sqrt(variance)


def gains():
    """By how much a shift of each draw by one deviation moves the final state."""
    found = []
    for i in range(len(SIGMAS) - 2):
        gain = SIGMAS[i + 1] * (1 - (SIGMAS[i + 1] / SIGMAS[i]) ** 2).sqrt()
        for high, low in zip(SIGMAS[i + 1 : -1], SIGMAS[i + 2 :], strict=True):
            ratio = (low / high) ** 2
            gain = gain * (SPREAD**2 / (SPREAD**2 + high**2) * (1 - ratio) + ratio)
        found.append(gain.item())
    return found


def best_attack(budget):
    """The one that reaches the bound: each draw is shifted in proportion to its gain."""
    weights = torch.tensor(gains(), dtype=torch.float64)
    shifts = budget * weights / weights.norm()

    def guided(x, sigma):
        i = int((SIGMAS - sigma).abs().argmin())
        if i >= len(shifts):
            return exact(x, sigma)
        ratio = (SIGMAS[i + 1] / sigma) ** 2
        return exact(x, sigma) + shifts[i] * SIGMAS[i + 1] / (1 - ratio).sqrt()

    return guided


def hopeful(budget):
    """An attacker who looks at the path, and steers only where it seems worth it."""
    mean, _ = unguided()
    best = best_attack(2 * budget)

    def guided(x, sigma):
        worth = x > mean * 0.5 - 0.2 * sigma
        return torch.where(worth, best(x, sigma), exact(x, sigma))

    return guided


def late(budget):
    """An attacker who keeps the budget for the last draws, and spends it if that may suffice."""

    def guided(x, sigma):
        return exact(x, sigma) + torch.where((x > 0) & (sigma < 1), 50.0, 0.0)

    return guided


@pytest.mark.parametrize("p0", [0.05, 0.001, 0.5])
@pytest.mark.parametrize("budget", [0.5, 1.0, 2.0])
def test_the_bound_is_reached_by_the_best_attack_of_a_linear_world(p0, budget):
    mean, deviation = unguided()
    assert math.hypot(*gains()) == pytest.approx(deviation, rel=1e-9)
    edge = mean + deviation * norm.isf(p0)
    hits = int((outcomes(best_attack(budget), budget) > edge).sum())
    bound = norm.cdf(norm.ppf(p0) + budget)
    assert binom.ppf(1e-4, REPEATS, bound) <= hits <= binom.ppf(1 - 1e-4, REPEATS, bound)


@pytest.mark.parametrize("p0, budget", [(0.05, 1.0), (0.001, 2.0)])
def test_an_attack_that_wants_more_than_its_budget_reaches_the_bound_and_no_more(p0, budget):
    """What each draw may spend is the best attack's; the limit alone keeps it there."""
    mean, deviation = unguided()
    edge = mean + deviation * norm.isf(p0)
    weights = torch.tensor(gains(), dtype=torch.float64).square()
    shares = (weights.cumsum(0) / weights.sum()).tolist()
    hits = int((outcomes(best_attack(10 * budget), budget, 2, shares) > edge).sum())
    bound = norm.cdf(norm.ppf(p0) + budget)
    assert binom.ppf(1e-4, REPEATS, bound) <= hits <= binom.ppf(1 - 1e-4, REPEATS, bound)


@pytest.mark.parametrize("attack", [hopeful, late])
@pytest.mark.parametrize("p0, budget", [(0.05, 0.5), (0.05, 2.0), (0.001, 1.0)])
def test_no_adaptive_attack_beats_the_bound(attack, p0, budget):
    mean, deviation = unguided()
    edge = mean + deviation * norm.isf(p0)
    hits = int((outcomes(attack(budget), budget, seed=1) > edge).sum())
    bound = norm.cdf(norm.ppf(p0) + budget)
    assert p0 * REPEATS * 1.1 < hits <= binom.ppf(1 - 1e-6, REPEATS, bound)


def _forget_the_factor(monkeypatch):
    """Shifts in pixels, not in deviations of the noise."""
    monkeypatch.setattr(
        steering_module,
        "_energy",
        lambda x, reference, spread: ENERGY(x, reference, 1 + 0 * spread),
    )


def _forget_a_step(monkeypatch):
    """The fifth draw goes by uncounted."""
    diffuse = Steering.diffuse

    def forgetful(self, x, spread):
        before = self.energy
        found = diffuse(self, x, spread)
        if self.n_draws == 5:
            self.energy = before
        return found

    monkeypatch.setattr(Steering, "diffuse", forgetful)


def _add_in_float32(monkeypatch):
    """Squares that overflow."""
    monkeypatch.setattr(steering_module, "_to_double", lambda x: x.float())


def _halve(monkeypatch):
    """``|u|^2 / 2``, the divergence in place of the energy."""
    monkeypatch.setattr(steering_module, "_energy", lambda *words: ENERGY(*words) / 2)


ENERGY = steering_module._energy


@pytest.mark.parametrize(
    "mutate, check",
    [
        (_forget_the_factor, "definition"),
        (_forget_a_step, "definition"),
        (_halve, "definition"),
        (_halve, "bound"),
        (_add_in_float32, "overflow"),
    ],
)
def test_the_tests_above_catch_wrong_energies(monkeypatch, mutate, check):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        if check == "definition":
            test_the_reference_with_shifted_noise_is_the_guided_chain(ancestral, {}, 3.0)
        elif check == "bound":
            test_an_attack_that_wants_more_than_its_budget_reaches_the_bound_and_no_more(0.05, 1.0)
        else:
            test_no_path_exceeds_the_limit_and_no_shift_overflows(ancestral, {})
