"""DiffPure: add noise up to a level, and sample from there without guidance.  Nie et al. (2022).

A stochastic sampler solves the reverse SDE, as in the paper; ``heun`` or ``dpmpp_2m`` the ODE. The
paper's time t* of the VP process is ``sigma_start = vp_sigma(t*)``, for its t* = 0.1 on CIFAR-10
0.34.
"""

from scoreag.core.rng import Noise
from scoreag.core.types import Images
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.config import GUIDANCE_FIELDS, SamplingConfig
from scoreag.methods.guided_sampling import configure_prior

CARD_SECTION = "diffpure"
CONFIG_FIELDS = ("sigma_start", "steps", "sampler", "sampler_options", *GUIDANCE_FIELDS)
DEFAULTS = {"sigma_start": 0.25, "steps": 8, "sampler": "ancestral"}


def purify(prior: Prior, images: Images, config: SamplingConfig, noise: Noise) -> Images:
    """Sample from the state ``images + sigma_start n``, in [-1, 1]."""
    return configure_prior(prior, config).sample(noise, init_image=to_model_range(images))
