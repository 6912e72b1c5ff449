"""Against the schedulers of diffusers, in their own coordinates: x_vp = x / sqrt(1 + sigma^2)."""

import pytest
import torch

from chains import drawing
from scoreag.core.rng import Noise
from scoreag.diffusion.parameterizations import Preconditioned, ddpm
from scoreag.diffusion.samplers import ancestral, dpmpp_2m, euler

ALPHAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float32).neg().add(1).cumprod(0)
NOISE = Noise(seed=0, image_ids=[3, 1])
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


class Network(torch.nn.Module):
    """Any function of state and time will do: two chains of the same steps agree on it."""

    def forward(self, x, time, labels=None):
        return 0.9 * x + 0.2 * (x.roll(1, -1) * (1 + time.view(-1, 1, 1, 1) / 500)).sin()


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers")


def settings(**others):
    return {
        "num_train_timesteps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        **others,
    }


def their_chain(scheduler, x_vp, **options):
    """The usual loop of diffusers, with our noise: step i has ``NOISE.fold_in("step", i)``."""
    network = Network()
    for i, t in enumerate(scheduler.timesteps):
        predicted = network(x_vp, t.expand(2).to(x_vp))
        with drawing(scheduler, NOISE.fold_in("step", i)):
            x_vp = scheduler.step(predicted, t, x_vp, **options).prev_sample
    return x_vp


def our_chain(sampler, times, x_vp, **options):
    alphas = ALPHAS.to(x_vp)[times]
    sigmas = torch.cat([(1 / alphas - 1).sqrt(), torch.zeros(1).to(x_vp)])
    denoise = Preconditioned(Network(), ddpm(ALPHAS.double()))
    return sampler.sample(denoise, x_vp / alphas[0].sqrt(), sigmas, NOISE, **options)


def start(dtype):
    return NOISE.fold_in("start").normal_like(torch.zeros(2, 3, 4, 4, dtype=dtype))


def distance(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def test_euler_is_ddim_without_noise(diffusers):
    scheduler = diffusers.DDIMScheduler(**settings(clip_sample=False, set_alpha_to_one=True))
    scheduler.set_timesteps(10)
    theirs = their_chain(scheduler, start(torch.float64), eta=0.0)
    ours = our_chain(euler, scheduler.timesteps, start(torch.float64))
    assert distance(ours, theirs) < 1e-6  # its alphas are float32


def test_ancestral_is_ddpm(diffusers):
    scheduler = diffusers.DDPMScheduler(**settings(clip_sample=False, variance_type="fixed_small"))
    scheduler.set_timesteps(10)
    theirs = their_chain(scheduler, start(torch.float32))
    ours = our_chain(ancestral, scheduler.timesteps, start(torch.float32))
    assert distance(ours, theirs) < 1e-5


@pytest.mark.parametrize("stochastic", [False, True], ids=["ode", "sde"])
def test_dpmpp_is_dpm_solver_2m(diffusers, stochastic):
    kind = "sde-dpmsolver++" if stochastic else "dpmsolver++"
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **settings(algorithm_type=kind, solver_order=2, final_sigmas_type="zero")
    )
    scheduler.set_timesteps(10)
    theirs = their_chain(scheduler, start(torch.float32))
    ours = our_chain(dpmpp_2m, scheduler.timesteps, start(torch.float32), sde=stochastic)
    assert distance(ours, theirs) < 1e-5
