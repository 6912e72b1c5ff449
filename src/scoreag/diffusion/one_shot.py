"""Noisy images, denoised by one call of a score model.  Carlini et al. (2023)."""

from collections.abc import Callable

from scoreag.core.types import Images
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import Prior, to_images, to_model_range
from scoreag.diffusion.prior_guidance import GuidedModel


def denoise_once(prior: Prior, sigma: float) -> Callable[[Images], Images]:
    """``D(x; 2 sigma)`` of images in [0, 1] with noise of deviation ``sigma``, without a label.

    Raises:
        ValueError: the prior is guided, so that one call of its denoiser estimates nothing.
    """
    if isinstance(prior.model, GuidedModel):
        raise ValueError(
            f"the score model is guided by {prior.model.scale:g}, and one-shot denoising takes the "
            "model itself; give the prior without guidance (scale 1)"
        )
    denoise = with_labels(prior.model, None)

    def denoised(noisy: Images) -> Images:
        x = to_model_range(noisy)
        return to_images(denoise(x, x.new_tensor(2 * sigma)))

    return denoised
