"""DiffPure: noise up to a level, and the way back without evidence.  Nie et al. (2022).

By a stochastic sampler it is the reverse SDE, as in the paper; by ``heun`` or ``dpmpp`` the ODE.
The paper's time t* of the VP process is the noise level ``start = vp_sigma(t*)``: for the t* = 0.1
of its CIFAR-10 runs 0.34.
"""

from scoreag.core.rng import Noise
from scoreag.core.types import Images
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import configure_prior

CARD_SECTION = "diffpure"
CONFIG_FIELDS = ("sigma_start", "steps", "sampler", "sampler_options")
DEFAULTS = {"sigma_start": 0.25, "steps": 8, "sampler": "ancestral"}


def purify(prior: Prior, images: Images, config: SamplingConfig, noise: Noise) -> Images:
    """``x = images + start n`` in states, carried down to sigma = 0."""
    return configure_prior(prior, config).sample(noise, init_image=to_model_range(images))
