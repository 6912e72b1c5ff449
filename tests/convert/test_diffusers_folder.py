"""Folders of diffusers: the chains of the package itself, and what is refused."""

import json

import pytest
import torch

from chains import drawing
from made_diffusers import TINY
from scoreag import load_prior
from scoreag.core.rng import Noise
from scoreag.diffusion.parameterizations import alphas_cumprod_to_sigmas, linear_alphas_cumprod
from scoreag.diffusion.samplers import ancestral, euler
from scoreag.models.convert.checkpoint import open_checkpoint

NOISE = Noise(seed=0, image_ids=[3, 1])
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def saved(diffusers, folder, pipeline=True, network=(), **schedule):
    """A network with random weights and its scheduler, as the package writes them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = diffusers.UNet2DModel(**{**TINY, **dict(network)}).eval()
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000, clip_sample=False, **schedule)
    if pipeline:
        diffusers.DDPMPipeline(model, scheduler).save_pretrained(folder)
    else:
        model.save_pretrained(folder)
        scheduler.save_pretrained(folder)
    return model


@torch.no_grad()
def their_chain(model, scheduler, x, **options):
    for i, t in enumerate(scheduler.timesteps):
        predicted = model(x, t).sample
        with drawing(scheduler, NOISE.fold_in("step", i)):
            x = scheduler.step(predicted, t, x, **options).prev_sample
    return x


@torch.no_grad()
def our_chain(prior, sampler, times):
    sigmas = torch.cat(
        [alphas_cumprod_to_sigmas(linear_alphas_cumprod())[times].float(), torch.zeros(1)]
    )
    x = NOISE.fold_in("start").normal_like(torch.zeros(2, 3, 8, 8)) * (1 + sigmas[0] ** 2).sqrt()
    return sampler.sample(lambda x, sigma: prior.model(x, sigma), x, sigmas, NOISE)


@pytest.mark.parametrize("steps", [1, 4, 10, 25])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["DDIM", "DDPM"])
def test_its_chains_are_those_of_the_package(diffusers, tmp_path, kind, prediction, steps):
    model = saved(diffusers, tmp_path, prediction_type=prediction)
    made = {
        "DDIM": lambda: diffusers.DDIMScheduler(
            num_train_timesteps=1000, clip_sample=False, prediction_type=prediction
        ),
        "DDPM": lambda: diffusers.DDPMScheduler(
            num_train_timesteps=1000, clip_sample=False, prediction_type=prediction,
            variance_type="fixed_small",
        ),
    }  # fmt: skip
    scheduler = made[kind]()
    scheduler.set_timesteps(steps)
    start = NOISE.fold_in("start").normal_like(torch.zeros(2, 3, 8, 8))
    theirs = their_chain(model, scheduler, start)
    sampler = {"DDIM": euler, "DDPM": ancestral}[kind]
    ours = our_chain(load_prior(tmp_path), sampler, scheduler.timesteps)
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


def test_a_model_alone_and_old_weights_are_read_too(diffusers, tmp_path):
    model = saved(diffusers, tmp_path, pipeline=False)
    found = open_checkpoint(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    old = open_checkpoint(tmp_path)
    assert found.family == old.family == "ddpm"
    assert all(torch.equal(found.tensors[n], old.tensors[n]) for n in found.tensors)


def test_a_folder_says_itself_what_it_is(diffusers, tmp_path):
    saved(diffusers, tmp_path)
    with pytest.raises(ValueError, match="says itself what it is of; leave out --config"):
        open_checkpoint(tmp_path, {"image_size": 8})


def test_the_second_derivative_that_guidance_needs_is_there(diffusers, tmp_path):
    saved(diffusers, tmp_path)
    model, x = load_prior(tmp_path).model, torch.randn(1, 3, 8, 8, requires_grad=True)
    first = torch.autograd.grad(
        model(x, torch.tensor(0.5)).square().sum(), x, create_graph=True
    )[0]  # fmt: skip
    assert torch.autograd.grad(first.square().sum(), x)[0].isfinite().all()


def test_a_network_with_labels_is_asked_with_labels_only(diffusers, tmp_path):
    saved(diffusers, tmp_path, network={"num_class_embeds": 4})
    prior, x = load_prior(tmp_path), torch.randn(2, 3, 8, 8)
    sigma = torch.tensor(0.5)
    told = [prior.model(x, sigma, torch.tensor([n, n])) for n in (0, 3)]
    assert prior.classes == ("0", "1", "2", "3") and not torch.allclose(*told)
    with pytest.raises(ValueError, match="was not trained without labels"):
        prior.model(x, sigma)


def changed(folder, name, **entries):
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: changed(f, "config.json", _class_name="UNet3D"), "holds a 'UNet3D'; read are"),
        (
            lambda f: changed(f, "scheduler_config.json", beta_end=3.0),
            "betas from 0.0001 to 3.0; they rise, above 0 and below 1",
        ),
        (
            lambda f: changed(f, "scheduler_config.json", beta_schedule="scaled_liner"),
            "a schedule 'scaled_liner'; did you mean 'scaled_linear'",
        ),
        (lambda f: (f / "scheduler_config.json").unlink(), "scheduler_config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is no JSON"),
        (
            lambda f: (f / "diffusion_pytorch_model.safetensors").unlink(),
            "has none of diffusion_pytorch_model.safetensors",
        ),
        (
            lambda f: changed(f, "config.json", time_embedding_type="fourier"),
            "time_embedding_type is 'fourier'; read are positional, and fourier with",
        ),
    ],
)
def test_what_is_not_known_is_named(diffusers, tmp_path, change, message):
    saved(diffusers, tmp_path, pipeline=False)
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(tmp_path)


def test_a_pipeline_as_an_object_is_the_pipeline_of_its_folder(diffusers, tmp_path):
    saved(diffusers, tmp_path / "folder")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "folder")
    given, read = load_prior(pipeline), load_prior(tmp_path / "folder")
    x, sigma = NOISE.normal_like(torch.zeros(2, 3, 8, 8)), torch.tensor(0.7)
    torch.testing.assert_close(given.model(x, sigma), read.model(x, sigma), rtol=0, atol=0)
    assert given.metadata["sha256"] == read.metadata["sha256"]
    assert given.metadata["name"] == "DDPMPipeline"


def test_a_network_without_its_scheduler_is_told_what_is_missing(diffusers):
    with pytest.raises(ValueError, match="scheduler"):
        load_prior(diffusers.UNet2DModel(**TINY))
