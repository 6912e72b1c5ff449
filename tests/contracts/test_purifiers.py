"""Every purifier, by every sampler that it takes: its gradient, and what that costs.

The network has attention, and GAP's guidance takes a gradient of its own inside of each step.
"""

from dataclasses import replace

import pytest
import torch

import scoreag
import tiny
from chains import detached, difference, gradient, plainly
from scoreag.defenses.memory_budget import saved_tensor_bytes
from scoreag.diffusion.guidance import JACOBIANS
from scoreag.methods import guided_sampling
from scoreag.registry import component_names, load_component

STEPS = {"sigma_start": 0.8, "steps": 3}
GUIDED = {"guidance_scale": 2.0, "guide": "weaker:a-smaller-model", "guidance_interval": (0.1, 9.0)}
MORE = {
    ("gap", "heun"): [{"likelihood_variance": "exact"}, {"x0_estimate": "ode_euler"}, GUIDED],
    ("diffpure", "ancestral"): [GUIDED],
    ("gap", "ancestral"): [{"guidance_scale": 2.0, "guide": "head"}],
}


def cases():
    """Name, then options: each sampler where the purifier takes one."""
    for name in component_names("purifiers"):
        takes = load_component("purifiers", name).CONFIG_FIELDS
        own = {option: value for option, value in STEPS.items() if option in takes}
        for sampler in component_names("samplers") if "sampler" in takes else [None]:
            chain = own | ({"sampler": sampler} if sampler else {})
            for more in [{}, *MORE.get((name, sampler), [])]:
                words = [name, sampler or "", *map(str, more.values())]
                yield pytest.param(name, chain | more, id=" ".join(filter(None, words)))


EVERY = pytest.mark.parametrize("purifier, options", list(cases()))


def prior_for(options):
    """With a second output where the options want one."""
    return tiny.prior(**tiny.HEAD if options.get("guide") == "head" else {})


@pytest.fixture
def prior(request):
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return prior_for(parameters.get("options", {})).to(torch.float64)


@pytest.fixture
def images():
    source = torch.Generator().manual_seed(0)
    return 0.2 + 0.6 * torch.rand(2, *tiny.SHAPE, generator=source, dtype=torch.float64)


def value(prior, purifier, options, dtype=torch.float64, **more):
    """Of the images, through a purifier and a classifier: one number."""
    defended = scoreag.defend(tiny.victim(), prior, purifier, **options, **more).fix_randomness(0)
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=dtype)
    return lambda x: (defended(x) @ weights).sin().sum()


@pytest.fixture(scope="module")
def weaker_card(tmp_path_factory):
    return tiny.write_score_model(tmp_path_factory.mktemp("weaker"), seed=3)


@pytest.fixture(autouse=True)
def smaller_model(weaker_card, monkeypatch):
    """The guide of guided purifiers, under a name in place of a folder's."""
    load = guided_sampling.load_prior
    monkeypatch.setattr(guided_sampling, "load_prior", lambda name, *more: load(weaker_card, *more))


@EVERY
def test_gradient_is_that_of_plain_autograd(purifier, options, prior, images, monkeypatch):
    ours = gradient(value(prior, purifier, options), images)
    plainly(monkeypatch)
    plain = gradient(value(prior, purifier, options), images)
    assert plain.norm() > 1e-3
    assert (ours - plain).norm() <= 1e-9 * plain.norm()


@EVERY
def test_gradient_is_the_derivative(purifier, options, prior, images):
    function = value(prior, purifier, options)
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    slope = float((gradient(function, images) * along).sum())
    assert slope == pytest.approx(difference(function, images, along), rel=1e-6)


@EVERY
def test_a_gradient_costs_exactly_two_evaluations_for_each_of_the_forward_pass(
    purifier, options, prior, images
):
    calls = []
    prior.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    function = value(prior, purifier, options, draws=2)
    calls.clear()
    function(images)
    forward = len(calls)
    calls.clear()
    gradient(function, images)
    assert forward > 0 and len(calls) == 2 * forward


@EVERY
def test_gradient_is_that_of_plain_autograd_in_single_precision(
    purifier, options, images, monkeypatch
):
    given, images = (prior_for(options), purifier, options, torch.float32), images.float()
    ours = gradient(value(*given), images)
    plainly(monkeypatch)
    plain = gradient(value(*given), images)
    assert (ours - plain).norm() <= 1e-5 * plain.norm()


@EVERY
def test_in_bfloat16_the_two_routes_differ_less_than_either_from_the_truth(
    purifier, options, prior, images, monkeypatch
):
    """Half of what the arithmetic itself costs, or less, for the median of five draws: sums are
    taken in another order, and in a few draws a rounding falls otherwise and moves what follows."""
    seeds, single = range(5), images.float()
    true = [gradient(value(prior, purifier, options, seed=k), images).float() for k in seeds]
    given = (prior_for(options), purifier, options, torch.float32)
    ours = [gradient(value(*given, bf16=True, seed=k), single) for k in seeds]
    plainly(monkeypatch)
    plain = [gradient(value(*given, bf16=True, seed=k), single) for k in seeds]
    assert all(x.dtype == torch.float32 for x in ours)
    assert all((x - y).norm() > 1e-3 * y.norm() for x, y in zip(ours, true, strict=True))
    between = torch.stack([(x - y).norm() for x, y in zip(ours, plain, strict=True)])
    cost = torch.stack([(x - y).norm() for x, y in zip(plain, true, strict=True)])
    assert (between / cost).median() <= 0.5


@pytest.mark.parametrize("guidance", [{}, GUIDED | {"guidance_interval": None}], ids=["", "guided"])
@pytest.mark.parametrize("sampler, states", [("heun", 1), ("ancestral", 1), ("dpmpp_2m", 2)])
def test_a_further_step_saves_one_state_and_nothing_else(sampler, states, guidance, prior, images):
    """8 bytes a number, dpmpp's state is a pair, and a level is a number, too.

    Of the graph of a step nothing outlives it.
    """

    def kept(steps):
        chain = {"sampler": sampler, "sigma_start": 0.8, "steps": steps, **guidance}
        return saved_tensor_bytes(lambda: gradient(value(prior, "gap", chain), images))

    more = kept(9) - kept(4) - 5 * 8 * states * images.numel()
    assert more in (0, 5 * 8)
    assert kept(4) > 20 * images.numel() * 8


def test_a_mutant_that_detaches_the_inner_gradient_is_detected(prior, images, monkeypatch):
    """The weaker gradient is neither that of plain autograd nor the derivative: errors above 1 %,

    where the tests above allow a millionth.
    """
    given = (prior, "gap", STEPS | {"sampler": "heun"})
    along = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).double()
    true = gradient(value(*given), images)
    slope = difference(value(*given), images, along)
    monkeypatch.setitem(JACOBIANS, "exact", detached)
    mutant = gradient(value(*given), images)
    assert difference(value(*given), images, along) == pytest.approx(slope, rel=1e-9)
    assert (mutant - true).norm() > 0.01 * true.norm()
    assert abs(float((mutant * along).sum()) - slope) > 0.01 * abs(slope)


def test_diffpure_is_the_sampler_from_a_noisy_image(prior, images):
    """By hand: add the noise, then take the steps."""
    noise = scoreag.core.rng.Noise(4, [7, 9])
    module = load_component("purifiers", "diffpure")
    chosen = scoreag.SamplingConfig(sigma_start=0.5, steps=3, sampler="ancestral")
    found = module.purify(prior, images, chosen, noise)
    sigmas = chosen.sigmas()
    x = 2 * images - 1 + 0.5 * noise.fold_in("start").normal_like(images)
    for i in range(3):
        step = load_component("samplers", "ancestral").step
        x = step(prior.model, x, sigmas[i], sigmas[i + 1], noise.fold_in("step", i))
    assert torch.allclose(found, ((x + 1) / 2).clamp(0, 1), atol=1e-12)


def test_one_step_denoising_is_the_estimate_at_the_noisy_image(prior, images):
    noise = scoreag.core.rng.Noise(4, [7, 9])
    module = load_component("purifiers", "one_step_denoising")
    found = module.purify(prior, images, scoreag.SamplingConfig(sigma_start=0.5), noise)
    x = 2 * images - 1 + 0.5 * noise.fold_in("start").normal_like(images)
    estimate = prior.model(x, torch.tensor(0.5).double())
    assert torch.allclose(found, ((estimate + 1) / 2).clamp(0, 1), atol=1e-12)


def test_one_euler_step_of_diffpure_is_one_step_denoising(prior, images):
    given = {"draws": 3, "sigma_start": 0.6}
    once = scoreag.defend(tiny.victim(), prior, "one_step_denoising", **given).fix_randomness(0)
    step = scoreag.defend(tiny.victim(), prior, "diffpure", sampler="euler", steps=1, **given)
    assert torch.allclose(once(images), step.fix_randomness(0)(images), atol=1e-12)


@pytest.mark.parametrize("purifier", component_names("purifiers"))
def test_settings_come_from_the_card_if_it_has_them(purifier, prior):
    part = load_component("purifiers", purifier)
    tuned = replace(prior, defaults={part.CARD_SECTION: {"sigma_start": 0.123}})
    assert scoreag.defend(tiny.victim(), tuned, purifier).config.sampling.sigma_start == 0.123
    bare = replace(prior, defaults={})
    chosen = scoreag.defend(tiny.victim(), bare, purifier).config.sampling
    assert {name: getattr(chosen, name) for name in part.DEFAULTS} == part.DEFAULTS
    assert set(part.DEFAULTS) <= {*part.CONFIG_FIELDS, "attack_scale"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
@EVERY
def test_gradient_on_a_gpu_is_that_on_the_cpu(purifier, options, prior, images):
    there = prior.to(torch.float64, "cuda")
    ours = gradient(value(there, purifier, options), images.cuda()).cpu()
    plain = gradient(value(prior, purifier, options), images)
    assert (ours - plain).norm() <= 1e-9 * plain.norm()
