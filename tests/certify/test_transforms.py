"""Transforms add up exactly, and their certificates are those of Neyman and Pearson."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize, stats

from scoreag.certify.transforms import blur, brightness_contrast, translation
from scoreag.certify.transforms.brightness_contrast import (
    distance_left,
    half_radius,
    scaled_probability,
)
from scoreag.certify.transforms.translation import critical_probability, rounded_gaussian
from scoreag.core.rng import Noise

PHI, DENSITY, QUANTILE = stats.norm.cdf, stats.norm.pdf, stats.norm.ppf
SIZES = [(8, 8), (7, 10), (9, 5)]


def images(size=(7, 10), count=3) -> torch.Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.rand(count, 2, *size, generator=source, dtype=torch.float64)


def rows(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_variances_of_blurs_add(size):
    x, a, b = images(size), rows([0.0], [0.3], [2.0]), rows([0.7], [0.4], [1.5])
    twice = blur.apply(blur.apply(x, a), b)
    assert torch.allclose(twice, blur.apply(x, a + b), rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_a_blur_is_that_of_a_sampled_gaussian(size):
    """Aliasing of the sampled kernel is below exp(-6.25 pi^2 / 2) = 4e-14."""
    x = images(size, 1)
    kernel = {"sigma": 2.5, "mode": "wrap", "truncate": 9.0, "axes": (2, 3)}
    expected = torch.from_numpy(ndimage.gaussian_filter(x.numpy(), **kernel))
    assert torch.allclose(blur.apply(x, rows([6.25])), expected, rtol=0, atol=1e-12)


def test_a_wave_fades_as_worked_out_by_hand():
    """Period 8, variance 2: the amplitude becomes exp(-(2 pi / 8)^2) = 0.5397."""
    wave = torch.cos(2 * math.pi * torch.arange(8.0, dtype=torch.float64) / 8).view(1, 1, 1, 8)
    found = blur.apply(wave, rows([2.0]))
    assert torch.allclose(found, 0.5396414 * wave, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_displacements_add(size):
    x, a, b = images(size), rows([1, 2], [-3, 4], [5, 0]), rows([2, -9], [3, -4], [6, 11])
    twice = translation.apply(translation.apply(x, a), b)
    assert torch.equal(twice, translation.apply(x, a + b))


def test_a_pixel_moves_down_and_right():
    x = torch.zeros(1, 1, 5, 7)
    x[0, 0, 3, 1] = 1
    assert translation.apply(x, torch.tensor([[3.0, 2.0]]))[0, 0].nonzero().tolist() == [[1, 3]]


def test_brightness_and_contrast_compose_with_the_factor_of_the_first():
    x, first, second = images(), images((1, 1))[:, :, 0, 0] - 0.5, images((1, 2))[:, 0, 0]
    (k, b), (k2, b2) = first.T, second.T
    twice = brightness_contrast.apply(brightness_contrast.apply(x, first), second)
    once = brightness_contrast.apply(x, torch.stack([k + k2, b + (-k).exp() * b2], 1))
    assert torch.allclose(twice, once, rtol=0, atol=1e-14)


def test_brightness_comes_before_contrast_and_nothing_is_clipped():
    """2 (0.5 + 0.1) = 1.2."""
    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    found = brightness_contrast.apply(x, rows([math.log(2), 0.1]))
    assert found.item() == pytest.approx(1.2, abs=1e-15)


def test_noise_has_the_distribution_of_its_certificate():
    """Kolmogorov and Smirnov's distance is below 1.95 / n^(1/2) with probability 0.999."""
    n = 20_000
    noise, like = Noise(1, range(n)), torch.zeros(n, 1, 1, 1)
    (a,) = blur.sample(noise, like, (2.0,)).T
    k, b = brightness_contrast.sample(noise, like, (0.3, 0.1)).T
    for values, law in ((a, stats.expon(scale=2.0)), (k, stats.norm(0, 0.3)),
                        (b, stats.norm(0, 0.1))):  # fmt: skip
        assert stats.kstest(values.numpy(), law.cdf).statistic < 1.95 / n**0.5
    for shifts in translation.sample(noise, like, (1.3,)).T:
        for d in range(-3, 4):
            share = PHI((d + 0.5) / 1.3) - PHI((d - 0.5) / 1.3)
            spread = 5 * (share * (1 - share) / n) ** 0.5
            assert (shifts == d).double().mean().item() == pytest.approx(share, abs=spread)
    assert abs(np.corrcoef(k, b)[0, 1]) < 5 / n**0.5


def test_radii_worked_out_by_hand():
    """p = 0.9: -ln 0.2 = 1.6094; Phi^-1(0.9) = 1.2816; and all of 10,000 at alpha 0.001."""
    assert blur.certify(0.9, (2.0,), (8, 8))["radius"] == pytest.approx(3.2189, abs=1e-4)
    assert blur.certify(0.001**1e-4, (1.0,), (8, 8))["radius"] == pytest.approx(6.585, abs=1e-3)
    found = brightness_contrast.certify(0.9, (0.2, 0.5), (8, 8))
    assert found["brightness"] == pytest.approx(0.6408, abs=1e-4)


# the torus


def moved(sigma, size, shift):
    """The noise on the torus before and after a shift, summed over 9 turns of it."""

    def axis(count, step):
        areas = np.zeros(count)
        for d in range(-4 * count, 5 * count):
            areas[(d + step) % count] += PHI((d + 0.5) / sigma) - PHI((d - 0.5) / sigma)
        return areas

    steps = ((0, 0), shift)
    return [np.outer(axis(size[0], y), axis(size[1], x)).ravel() for y, x in steps]


def largest_loss(clean, after):
    """``max P(S)`` with ``P(S - shift) <= 1/2``, parts of displacements allowed; to 1e-7."""
    return -optimize.linprog(-clean, A_ub=[after], b_ub=[0.5], bounds=(0, 1)).fun


@pytest.mark.parametrize("size", [(3, 3), (4, 2), (2, 5)])
@pytest.mark.parametrize("sigma", [0.4, 0.8, 1.5])
def test_the_bound_on_a_small_torus_is_that_of_brute_force(size, sigma):
    """Every set of displacements, and a linear program for those that are taken in part."""
    sets = np.array([*itertools.product((0, 1), repeat=math.prod(size))], dtype=float)
    for shift in [(0, 1), (1, 0), (1, 1), (1, 2)]:
        clean, after = moved(sigma, size, shift)
        found = critical_probability(shift, sigma, size)
        assert (sets @ clean)[sets @ after <= 0.5 - 1e-12].max() <= found + 1e-12
        assert found == pytest.approx(largest_loss(clean, after), abs=1e-7)


def test_the_radius_is_the_largest_within_which_all_displacements_are_certified():
    """On a torus of 5 x 6, where (0, 3) is farther than (2, 2) and is certified or not."""
    size, sigma = (5, 6), 0.9
    shifts = itertools.product(range(-2, 3), range(-2, 4))
    bounds = {shift: largest_loss(*moved(sigma, size, shift)) for shift in shifts}
    for p in np.linspace(0.51, 0.9999, 20):
        lost = [math.hypot(*shift) for shift, bound in bounds.items() if p <= bound]
        within = [r for shift in bounds if (r := math.hypot(*shift)) < min(lost, default=math.inf)]
        assert translation.certify(p, (sigma,), size)["radius"] == pytest.approx(max(within))


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_rounded_noise_certifies_no_less_than_gaussian_noise(p):
    """Rounding commutes with whole pixels, and processing of the noise loses nothing."""
    gaussian = 2.0 * QUANTILE(p)
    found = translation.certify(p, (2.0,), (64, 64))["radius"]
    longest = max(r for y in range(9) for x in range(9) if (r := math.hypot(y, x)) < gaussian)
    assert longest <= found <= gaussian + 1


def test_noise_over_the_whole_torus_certifies_every_displacement():
    assert translation.certify(0.51, (40.0,), (8, 6))["radius"] == 5.0  # 4 down, 3 right


def test_noise_that_underflows_certifies_the_image_alone():
    assert translation.certify(0.999, (0.01,), (64, 64))["radius"] == 0.0
    assert rounded_gaussian(0.01, 64).tolist() == [1.0] + 63 * [0.0]


# brightness and contrast


@pytest.mark.parametrize("p", [0.55, 0.8, 0.99])
@pytest.mark.parametrize("k", [-0.7, -0.1, 0.0, 0.1, 0.7])
def test_the_least_probability_under_scaled_noise_is_that_of_a_grid(p, k):
    """Cells of b in the order of their ratio: the worst set of probability p."""
    b, step = np.linspace(-6, 6, 20_001, retstep=True)
    clean, scaled = step * DENSITY(b), step * math.exp(k) * DENSITY(b * math.exp(k))
    order = np.argsort(scaled / clean, kind="stable")
    last = np.searchsorted(clean[order].cumsum(), p)
    (found,) = scaled_probability(p, np.array([k]))
    assert found == pytest.approx(scaled[order][:last].sum(), abs=2e-3)


def worst(p: float, k: float, b: float, sigma: tuple[float, float]) -> float:
    """The least probability of a class after a change (k, b), on a grid of both parameters."""
    grid, step = np.linspace(-6, 6, 601, retstep=True)
    u, v = k / sigma[0], b / sigma[1]
    moved = DENSITY(grid - u), math.exp(k) * DENSITY((grid - v) * math.exp(k))
    clean, after = (
        step**2 * np.outer(*axes).ravel() for axes in ((DENSITY(grid), DENSITY(grid)), moved)
    )
    order = np.argsort(after / clean, kind="stable")
    last = np.searchsorted(clean[order].cumsum(), p)
    return float(after[order][:last].sum())


@pytest.mark.parametrize("p", [0.7, 0.95])
@pytest.mark.parametrize("sigma", [(0.2, 0.3), (0.6, 0.1)])
def test_no_classifier_loses_the_majority_within_the_radius(p, sigma):
    """Twelve directions, each with the classifier that is the worst for it."""
    radius = brightness_contrast.certify(p, sigma, (8, 8))["radius"]
    for angle in np.arange(12) * math.pi / 6:
        k, b = radius * sigma[0] * math.cos(angle), radius * sigma[1] * math.sin(angle)
        assert worst(p, k, b, sigma) > 0.5 - 1e-3


@pytest.mark.parametrize("sign", [-1, 1])
def test_brightness_alone_is_certified_up_to_its_end_and_not_beyond(sign):
    b = sign * brightness_contrast.certify(0.9, (0.2, 0.3), (8, 8))["brightness"]
    assert worst(0.9, 0, 0.98 * b, (0.2, 0.3)) > 0.5 > worst(0.9, 0, 1.02 * b, (0.2, 0.3))


def is_certified(p, k, b, sigma) -> bool:
    """The region, written once more from the paper."""
    scaled = (
        2 * PHI(math.exp(k) * QUANTILE((1 + p) / 2)) - 1
        if k <= 0
        else 2 * (1 - PHI(math.exp(k) * QUANTILE(1 - p / 2)))
    )
    moved = math.hypot(k / sigma[0], b / (math.exp(-k) * sigma[1]))
    return scaled > 0.5 and moved < (QUANTILE(scaled) - QUANTILE(1 - scaled)) / 2


@pytest.mark.parametrize("p", [0.6, 0.95, 0.9993])
@pytest.mark.parametrize("sigma_k", [0.05, 0.2, 2.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_half_radius_is_that_of_the_largest_half_disk_in_the_region(p, sigma_k, sign):
    radius = half_radius(p, sigma_k, sign)

    def on_arc(r):
        angles = np.linspace(0, math.pi / 2, 361)
        return [is_certified(p, sign * r * sigma_k * math.sin(t), r * math.cos(t), (sigma_k, 1.0))
                for t in angles]  # fmt: skip

    assert all(on_arc(0.9999 * radius)) and not all(on_arc(1.0005 * radius))


def test_the_radius_is_the_smaller_half_radius():
    halves = [half_radius(0.9, 0.3, sign) for sign in (-1, 1)]
    radius = brightness_contrast.certify(0.9, (0.3, 0.1), (8, 8))["radius"]
    assert radius == min(halves) < max(halves)


@pytest.mark.parametrize("p", [0.6, 0.95, 0.9993])
def test_the_factor_of_the_contrast_ends_the_region_on_one_side(p):
    sigma = (0.2, 0.2)
    k = math.log(brightness_contrast.certify(p, sigma, (8, 8))["contrast"])
    inside = [is_certified(p, sign * 0.9999 * k, 0, sigma) for sign in (-1, 1)]
    outside = [is_certified(p, sign * 1.0001 * k, 0, sigma) for sign in (-1, 1)]
    assert all(inside) and not all(outside)


def test_a_majority_that_scaled_noise_may_take_leaves_no_distance():
    assert distance_left(0.6, np.array([-2.0, 2.0])).tolist() == [0.0, 0.0]
