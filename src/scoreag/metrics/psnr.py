"""Peak signal-to-noise ratio in decibels, pixels in [0, 1]: higher is closer."""

from scoreag.core.types import Images, Labels, PerImage


def psnr(clean: Images, adversarial: Images, labels: Labels | None = None) -> PerImage:
    """``-10 log10(mean squared change)``; infinite for equal images."""
    return -10 * (adversarial - clean).square().flatten(1).mean(1).log10()
