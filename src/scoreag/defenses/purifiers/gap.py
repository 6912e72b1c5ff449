"""GAP: a draw from the prior given that it resembles the image.  Kollovieh et al. (2023), 3.3."""

from scoreag.core.rng import Noise
from scoreag.core.types import Images
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import TASK_DEFAULTS, SamplingConfig, fields_for_task
from scoreag.methods.purification import sample_purification

CARD_SECTION = "purify"  # the table of a model's card with the settings that were tuned
CONFIG_FIELDS = tuple(fields_for_task(CARD_SECTION))
DEFAULTS = TASK_DEFAULTS[CARD_SECTION]


def purify(prior: Prior, images: Images, config: SamplingConfig, noise: Noise) -> Images:
    """``x0 ~ p(x0 | resembles images)``, by a guided chain; its class is not known."""
    return sample_purification(prior, images, config, noise)
