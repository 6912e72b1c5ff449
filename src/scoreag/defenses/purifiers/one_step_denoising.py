"""One-shot denoising: add noise up to a level, and denoise once.  Carlini et al. (2023).

Randomized smoothing uses it, where ``sigma_start`` is twice the noise in pixel units.
"""

from scoreag.core.rng import Noise
from scoreag.core.types import Images, State
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import Prior, to_images, to_model_range
from scoreag.diffusion.solver import checkpoint_chain
from scoreag.methods.config import SamplingConfig

CARD_SECTION = "one_step_denoising"
CONFIG_FIELDS = ("sigma_start",)
DEFAULTS = {"sigma_start": 0.3}


def purify(prior: Prior, images: Images, config: SamplingConfig, noise: Noise) -> Images:
    """``D(x; sigma)`` at ``x = images + sigma n``, in [-1, 1]."""
    x = to_model_range(images)
    sigma = x.new_tensor(config.sigma_start)
    x = x + sigma * noise.fold_in("start").normal_like(x)

    def estimate(state: State) -> State:
        return with_labels(prior.model, None)(state, sigma)

    return to_images(checkpoint_chain([estimate], x))
