"""The bundled score models, attention and guidance on: the chain has plain autograd's gradient."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import chains
import scoreag
from scoreag.core.rng import Noise
from scoreag.diffusion.guidance import guide
from scoreag.diffusion.likelihoods import EXACT_VARIANCE, mmps_denoiser, reconstruction
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import to_images, to_model_range
from scoreag.methods.config import resolve_task_config
from scoreag.methods.guided_sampling import configure_prior
from scoreag.methods.purification import sample_purification
from scoreag.registry import load_component

NOISE = Noise(seed=0, image_ids=[0])


@pytest.fixture(scope="module")
def prior():
    return scoreag.load_prior("cifar10", device="cpu").to(torch.float64)


@pytest.fixture(scope="module")
def images():
    source = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 32, 32, generator=source, dtype=torch.float64)


def looped(prior, images, settings):
    """The same chain without this library's memory-saving function: a loop over the steps."""
    reference, denoise = to_model_range(images), with_labels(prior.model, None)
    if settings.likelihood_variance == EXACT_VARIANCE:
        bent = mmps_denoiser(denoise, reference, settings.similarity)
    else:
        bent = guide(
            denoise, reconstruction(reference, settings.similarity, settings.likelihood_variance)
        )
    arranged = configure_prior(prior, settings)
    x = arranged.initial_state(NOISE, reference)
    step = load_component("samplers", settings.sampler).step
    for i, (sigma, lower) in enumerate(pairwise(arranged.sigmas.to(x))):
        x = step(bent, x, sigma, lower, NOISE.fold_in("step", i))
    return to_images(x)


@pytest.mark.parametrize(
    "sampler, variance", [("heun", "damped"), ("heun", "exact"), ("ancestral", "damped")]
)
def test_gradient_of_a_purification_is_that_of_plain_autograd(sampler, variance, prior, images):
    """``ancestral`` and ``damped`` are the card's own."""
    settings = resolve_task_config(
        prior, "purify", sampler=sampler, steps=2, likelihood_variance=variance
    )
    settings = replace(settings, sampler_options={})
    weights = torch.rand(images.shape, generator=torch.Generator().manual_seed(1)).double()

    def gradient(purify):
        leaf = images.clone().requires_grad_()
        (purify(leaf) * weights).sum().backward()
        return leaf.grad

    ours = gradient(lambda x: sample_purification(prior, x, settings, NOISE))
    plain = gradient(lambda x: looped(prior, x, settings))
    assert plain.norm() > 0
    assert (ours - plain).norm() <= 1e-9 * plain.norm()


def test_gradient_of_a_purification_is_its_derivative(prior, images):
    """Central differences along a random direction: neither of the two routes above."""
    settings = resolve_task_config(prior, "purify", sampler="heun", steps=2)
    settings = replace(settings, sampler_options={})
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(2)).double()

    def value(x):
        return sample_purification(prior, x, settings, NOISE).square().sum()

    leaf = images.clone().requires_grad_()
    value(leaf).backward()
    h = 1e-5
    with torch.no_grad():
        difference = (value(images + h * along) - value(images - h * along)) / (2 * h)
    assert float((leaf.grad * along).sum()) == pytest.approx(float(difference), rel=1e-6)


CASES = [
    ("cifar10", "diffpure", {"sampler": "dpmpp_2m"}),
    ("fashion-small", "gap", {"sampler": "ancestral"}),
    ("fashion-small", "gap", {"sampler": "heun"}),
    ("fashion-small", "diffpure", {"sampler": "ancestral"}),
    ("fashion-small", "one_step_denoising", {}),
]
VICTIMS = {"cifar10": "cifar10-resnet20", "fashion-small": "fashion-cnn"}


@pytest.mark.parametrize("model, purifier, chain", CASES)
def test_gradient_of_a_defence_is_plain_autograd_s_and_the_derivative(
    model, purifier, chain, monkeypatch
):
    prior = scoreag.load_prior(model, device="cpu").to(torch.float64)
    victim = scoreag.load_classifier(VICTIMS[model], device="cpu")
    steps = {"steps": 2} if chain else {}
    defended = scoreag.defend(
        victim, prior, purifier, sigma_start=0.5, **steps, **chain
    ).fix_randomness(0)
    source = torch.Generator().manual_seed(3)
    x, along = torch.rand(2, 1, *prior.image_shape, generator=source, dtype=torch.float64)
    x = 0.25 + x / 2

    def value(images):
        return (defended(images).log_softmax(1)[:, :3] ** 2).sum()

    ours = chains.gradient(value, x)
    slope = chains.difference(value, x, along, h=1e-7)  # a ReLU has corners; few lie so near
    assert float((ours * along).sum()) == pytest.approx(slope, rel=1e-6)
    chains.plainly(monkeypatch)
    plain = chains.gradient(value, x)
    assert (ours - plain).norm() <= 1e-9 * plain.norm()
