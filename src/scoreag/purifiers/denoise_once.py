"""One-shot denoising: noise up to a level, and the denoiser's estimate.  Carlini et al. (2023).

The defence of randomised smoothing, where ``start`` is twice the noise in pixel units.
"""

from scoreag.core.denoiser import of_class
from scoreag.core.integrate import fold
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior, to_images, to_state
from scoreag.core.types import Images, State
from scoreag.settings import Settings

CARD = "denoise_once"
TAKES = ("start",)
DEFAULTS = {"start": 0.3}


def purify(prior: Prior, images: Images, settings: Settings, noise: Noise) -> Images:
    """``D(x; start)`` at ``x = images + start n``, in states."""
    x = to_state(images)
    sigma = x.new_tensor(settings.start)
    x = x + sigma * noise.at("start").normal_like(x)

    def estimate(state: State) -> State:
        return of_class(prior.model, None)(state, sigma)

    return to_images(fold([estimate], x))
