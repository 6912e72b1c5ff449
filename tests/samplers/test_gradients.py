"""The gradient of a chain is that of plain autograd through a loop over its steps."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.samplers import dpmpp_2m, edm_stochastic
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


def sde_dpmpp(*chain, wrt=()):
    return dpmpp_2m.sample(*chain, wrt, sde=True)


def chains(name):
    """The sampler and its plain loop; a new one needs a line only if it has no plain ``step``."""
    module = load_component("samplers", name)
    written = {"edm_stochastic": plain_churn, "dpmpp_2m": plain_dpmpp}
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
