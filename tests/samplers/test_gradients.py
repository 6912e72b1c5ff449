"""The gradient of a chain is that of plain autograd through a loop over its steps."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import dpmpp_2m, edm_stochastic, heun
from scoreag.registry import component_names, load_component
from worlds import pulled

pytestmark = pytest.mark.usefixtures("in_double_precision")
NOISE = Noise(seed=0, image_ids=[0, 1, 2])


def plain(step, denoise, x, sigmas, noise):
    for i, (sigma, next_sigma) in enumerate(pairwise(sigmas)):
        x = step(denoise, x, sigma, next_sigma, noise.fold_in("step", i))
    return x


def plain_churn(denoise, x, sigmas, noise):
    gamma = min(40 / (len(sigmas) - 1), 2**0.5 - 1)
    step = partial(edm_stochastic.step, gamma=gamma, s_noise=1.003, s_tmin=0.05, s_tmax=50)
    return plain(step, denoise, x, sigmas, noise)


def plain_dpmpp(denoise, x, sigmas, noise, stochastic=False):
    """Lu et al. (2022), algorithm 2 and its SDE form, written in lambda = -ln sigma."""
    lam, last = -sigmas.log(), None
    for i in range(len(sigmas) - 1):
        x0 = denoise(x, sigmas[i])
        h = lam[i + 1] - lam[i]
        ahead = x0
        if last is not None and sigmas[i + 1] > 0:
            r = (lam[i] - lam[i - 1]) / h
            ahead = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * last
        if stochastic:
            spread = sigmas[i + 1] * (1 - (-2 * h).exp()).sqrt()
            x = (-2 * h).exp() * x + (1 - (-2 * h).exp()) * ahead
            x = x + spread * noise.fold_in("step", i).normal_like(x)
        else:
            x = (-h).exp() * x + (1 - (-h).exp()) * ahead
        last = x0
    return x


def lagrange(times, number):
    """The polynomial that is 1 at one of some times and 0 at the others."""
    others = [t for i, t in enumerate(times) if i != number]
    return np.poly1d(others, True) / np.prod([times[number] - t for t in others])


def plain_ipndm(denoise, x, sigmas, noise, order=3):
    """Zhang and Chen (2023): the integral of the polynomial through the last slopes."""
    levels, slopes = sigmas.tolist(), []
    for i in range(len(levels) - 1):
        slopes = [(x - denoise(x, sigmas[i])) / sigmas[i], *slopes][:order]
        times = levels[i::-1][: len(slopes)]
        for j, slope in enumerate(slopes):
            integral = np.polyint(lagrange(times, j))
            x = x + float(integral(levels[i + 1]) - integral(levels[i])) * slope
    return x


def plain_unipc(denoise, x, sigmas, noise, order=2):
    """Zhao et al. (2023): x(t + h) = e^-h x(t) + the integral of e^(u - h) D(u), by quadrature."""
    times = (-sigmas[sigmas > 0].log()).tolist()

    def advance(x, start, estimates, places):
        h = times[start + 1] - times[start]
        nodes, weights = np.polynomial.legendre.leggauss(20)
        u = (nodes + 1) / 2 * h
        x = np.exp(-h) * x
        for j, estimate in enumerate(estimates):
            values = np.exp(u - h) * lagrange([times[i] for i in places], j)(times[start] + u)
            x = x + float(values @ weights) * h / 2 * estimate
        return x

    before, estimates = x, []
    for i in range(len(times)):
        estimates = [denoise(x, sigmas[i]), *estimates]
        if i:
            places = list(range(i, max(-1, i - 1 - order), -1))[: order + 1]
            x = advance(before, i - 1, estimates, places[: len(estimates)])
        if i + 1 == len(times):
            break
        before, places = x, list(range(i, -1, -1))[:order]
        x = advance(x, i, estimates[: len(places)], places)
        estimates = estimates[:order]
    return estimates[0] if sigmas[-1] == 0 else x


def plain_restart(denoise, x, sigmas, noise):
    """Xu et al. (2023), algorithm 2: down to the level nearest to 0.06, up to 0.3, down, twice."""
    low = (sigmas[:-1].log() - math.log(0.06)).abs().argmin().item()
    x = plain(heun.step, denoise, x, sigmas[: low + 1], noise)
    for k in range(2):
        again = noise.fold_in("restart", k)
        x = x + (0.3**2 - sigmas[low] ** 2).sqrt() * again.normal_like(x)
        grid = (torch.linspace(0.3 ** (1 / 7), float(sigmas[low]) ** (1 / 7), 4)) ** 7
        x = plain(heun.step, denoise, x, grid, again)
    return plain(heun.step, denoise, x, sigmas[low:], noise)


def sde_dpmpp(*chain, wrt=()):
    return dpmpp_2m.sample(*chain, wrt, sde=True)


def chains(name):
    """The sampler and its plain loop; a new one needs a line only if it has no plain ``step``."""
    module = load_component("samplers", name)
    written = {
        "edm_stochastic": plain_churn, "dpmpp_2m": plain_dpmpp, "ipndm": plain_ipndm,
        "unipc": plain_unipc, "restart": plain_restart,
    }  # fmt: skip
    loop = written[name] if name in written else partial(plain, module.step)
    return module.sample, loop, getattr(module, "noise_schedule", karras)


CHAINS = {name: chains(name) for name in component_names("samplers")}
CHAINS["dpmpp_2m sde"] = (sde_dpmpp, partial(plain_dpmpp, stochastic=True), karras)
EVERY = pytest.mark.parametrize("sample, loop, grid", CHAINS.values(), ids=CHAINS)


def value_and_gradients(run, world, sigmas):
    """Of a guided chain that starts near its reference, as GAT and GAP do."""
    x = NOISE.fold_in("start").normal_like(torch.zeros(3, 1, 4, 4)).requires_grad_()
    image = NOISE.fold_in("image").normal_like(x).requires_grad_()
    reference = image.tanh()
    guided = pulled(world, reference, 0.3)
    x0 = run(guided, reference + 2 * x, sigmas, NOISE, reference)
    loss = (x0.sin() * torch.linspace(-1, 1, 16).view(1, 4, 4)).sum()
    return x0.detach(), *torch.autograd.grad(loss, [x, image])


@EVERY
def test_values_and_gradients_are_those_of_plain_autograd(sample, loop, grid, two_classes):
    sigmas = grid(7, sigma_max=3.0)
    ours = value_and_gradients(
        lambda *chain: sample(*chain[:4], wrt=[chain[4]]), two_classes, sigmas
    )
    theirs = value_and_gradients(lambda *chain: loop(*chain[:4]), two_classes, sigmas)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() < 1e-9 * other.norm()


@EVERY
def test_a_gradient_costs_each_denoiser_call_once_more(sample, loop, grid, two_classes):
    calls, sigmas = [], grid(5, sigma_max=3.0)

    def denoise(x, sigma):
        calls.append(sigma.item())
        return two_classes(x, sigma)

    x = NOISE.normal_like(torch.zeros(3, 1, 4, 4)).requires_grad_()
    y = sample(denoise, x, sigmas, NOISE)
    forward = len(calls)
    y.sum().backward()
    assert len(calls) == 2 * forward and sorted(calls[:forward]) == sorted(calls[forward:])
