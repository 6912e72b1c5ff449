"""GAP: a draw from the prior given that it resembles the image.  Kollovieh et al. (2023), 3.3."""

from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.types import Images
from scoreag.settings import FALLBACK, Settings, acting_in
from scoreag.tasks import purify as drawn_near

CARD = "purify"  # the table of a model's card with the settings that were tuned
TAKES = tuple(acting_in(CARD))
DEFAULTS = FALLBACK[CARD]


def purify(prior: Prior, images: Images, settings: Settings, noise: Noise) -> Images:
    """``x0 ~ p(x0 | resembles images)``, by a guided chain; its class is not known."""
    return drawn_near(prior, images, settings, noise)
