"""GAP: a sample of the prior, guided to resemble the image.  Kollovieh et al. (2023), 3.3."""

from scoreag.core.rng import Noise
from scoreag.core.types import Images
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import TASK_DEFAULTS, SamplingConfig, fields_for_task
from scoreag.methods.purification import sample_purification

CARD_SECTION = "purify"  # the table of tuned settings in a model's card
CONFIG_FIELDS = tuple(fields_for_task(CARD_SECTION))
DEFAULTS = TASK_DEFAULTS[CARD_SECTION]


def purify(prior: Prior, images: Images, config: SamplingConfig, noise: Noise) -> Images:
    """A sample of ``p(x0 | x0 resembles the image)``, without a class label."""
    return sample_purification(prior, images, config, noise)
