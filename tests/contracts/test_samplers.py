"""What every sampler must satisfy.  A new file is found, and tested, by its name."""

import inspect

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.registry import check_options, component_names, load_component
from worlds import pulled

pytestmark = pytest.mark.usefixtures("in_double_precision")


@pytest.fixture(params=component_names("samplers"))
def name(request):
    return request.param


@pytest.fixture
def module(name):
    return load_component("samplers", name)


@pytest.fixture
def sampler(module):
    return module.sample


@pytest.fixture
def grid(module):
    return getattr(module, "noise_schedule", karras)


def start(noise):
    return 10 * noise.fold_in("start").normal_like(torch.zeros(len(noise.image_ids), 3, 2))


def test_sampler_finds_the_only_image_of_the_data(sampler, grid):
    """To within the last noise level before 0; what each method does there is tested apart."""
    only = torch.tensor([[0.1, -0.4], [0.9, 0.0], [-1.0, 1.0]])
    noise, sigmas = Noise(seed=0, image_ids=[5]), grid(100, sigma_max=10.0)
    x0 = sampler(lambda x, sigma: only.expand_as(x), only + start(noise), sigmas, noise)
    assert torch.allclose(x0, only[None], atol=sigmas[-2].item())


def test_sampled_image_does_not_depend_on_its_batch(sampler, grid, world):
    def run(ids):
        noise = Noise(seed=3, image_ids=ids)
        return sampler(world.denoise, start(noise), grid(8, sigma_max=10.0), noise)

    assert torch.equal(run([0, 1, 2, 3, 4]), torch.cat([run([0, 1]), run([2, 3, 4])]))
    assert torch.equal(run([4, 2]), run([0, 1, 2, 3, 4])[[4, 2]])


def test_sampler_has_the_gradient_of_its_discrete_chain(sampler, grid, two_classes):
    noise, sigmas = Noise(seed=0, image_ids=[0, 1]), grid(4, sigma_max=5.0)
    x = noise.fold_in("start").normal_like(torch.zeros(2, 1, 4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sampler(two_classes, x, sigmas, noise), x)


def test_gradient_reaches_the_reference_of_the_guidance(sampler, grid, two_classes):
    noise, sigmas = Noise(seed=0, image_ids=[0, 1]), grid(4, sigma_max=5.0)
    x = noise.fold_in("start").normal_like(torch.zeros(2, 1, 4, 4))
    reference = noise.fold_in("reference").normal_like(x).requires_grad_()

    def purify(reference):
        guided = pulled(two_classes, reference, 0.3)
        return sampler(guided, x, sigmas, noise, wrt=[reference])

    assert torch.autograd.gradcheck(purify, reference)


def test_a_hidden_input_is_refused(sampler, grid, two_classes):
    noise = Noise(seed=0, image_ids=[0, 1])
    x = noise.fold_in("start").normal_like(torch.zeros(2, 1, 4, 4)).requires_grad_()
    hidden = torch.zeros(2, 1, 4, 4, requires_grad=True)
    y = sampler(pulled(two_classes, 2 * hidden, 0.3), x, grid(4, sigma_max=5.0), noise)
    with pytest.raises(RuntimeError, match=r"tensor of shape \(2, 1, 4, 4\).*name it in wrt"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_states_and_levels_have_the_dtype_of_the_start(sampler, grid, dtype):
    seen = set()

    def denoise(x, sigma):
        seen.update([x.dtype, sigma.dtype])
        return x / (1 + sigma**2)

    noise = Noise(seed=0, image_ids=[0])
    x0 = sampler(denoise, start(noise).to(dtype), grid(3, sigma_max=10.0), noise)
    assert x0.dtype == dtype and seen == {dtype}


def test_single_precision_follows_double_precision(sampler, grid, two_classes):
    noise, sigmas = Noise(seed=0, image_ids=[0, 1]), grid(20, sigma_max=80.0)
    x = 80 * noise.fold_in("start").normal_like(torch.zeros(2, 1, 4, 4))
    single, double = (sampler(two_classes, x.to(t), sigmas, noise) for t in (torch.float, x.dtype))
    assert torch.allclose(single.double(), double, atol=1e-4)


def test_the_same_seed_gives_the_same_images_and_no_global_state_moves(sampler, grid, world):
    before = torch.get_rng_state()
    noise = Noise(seed=0, image_ids=[0, 1])
    first, again = (sampler(world.denoise, start(noise), grid(5), noise) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(torch.get_rng_state(), before)


def test_options_are_named_and_have_defaults(name, sampler):
    """All of them keyword-only: so that a slip is found before work starts."""
    common, rest = [], []
    for p in inspect.signature(sampler).parameters.values():
        (rest if p.kind is p.KEYWORD_ONLY else common).append(p)
    assert [p.name for p in common] == ["denoise", "x", "sigmas", "noise", "wrt"]
    assert all(p.default is not p.empty for p in rest)
    check_options(sampler, {p.name: p.default for p in rest}, name)
    with pytest.raises(ValueError, match=f"{name} takes no option 'wtr'"):
        check_options(sampler, {"wtr": 1}, name)
