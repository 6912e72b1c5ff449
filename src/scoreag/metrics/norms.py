"""Distances of images with pixels in [0, 1]: l0, l1, l2, linf, PSNR and SSIM."""

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.core.types import BatchScalar, Images


def l0(clean: Images, adversarial: Images) -> BatchScalar:
    """The number of pixels of which at least one channel changed, of height x width."""
    changed = (adversarial != clean).any(dim=1)
    return changed.flatten(1).sum(1).to(clean.dtype)


def l1(clean: Images, adversarial: Images) -> BatchScalar:
    """The sum of absolute changes over pixels and channels."""
    return (adversarial - clean).abs().flatten(1).sum(1)


def l2(clean: Images, adversarial: Images) -> BatchScalar:
    """The Euclidean length of the change, over pixels and channels."""
    return (adversarial - clean).flatten(1).norm(dim=1)


def linf(clean: Images, adversarial: Images) -> BatchScalar:
    """The largest change of any channel of any pixel; 8/255 is the usual ball."""
    return (adversarial - clean).abs().flatten(1).amax(1)


def compute_norms(clean: Images, adversarial: Images) -> dict[str, BatchScalar]:
    """All four by name: l0, l1, l2, linf."""
    return {norm.__name__: norm(clean, adversarial) for norm in (l0, l1, l2, linf)}


def psnr(clean: Images, adversarial: Images) -> BatchScalar:
    """``-10 log10(mean squared change)``; infinite for equal images."""
    return -10 * (adversarial - clean).square().flatten(1).mean(1).log10()


WINDOW_SIZE, WINDOW_STD = 11, 1.5  # pixels, of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # for pixels in [0, 1]


def ssim(clean: Images, adversarial: Images) -> BatchScalar:
    """``(2 m m' + C1)(2 cov + C2) / ((m^2 + m'^2 + C1)(var + var' + C2))``, the mean over windows.

    Wang et al. (2004), eq. 13; 1 for equal images.  The moments are those of each channel under a
    Gaussian window of 11 x 11 pixels inside the image; the mean is over windows and channels.
    """
    if min(clean.shape[-2:]) < WINDOW_SIZE:
        raise ValueError(
            f"images of {clean.shape[-2]} x {clean.shape[-1]} pixels are smaller than the window "
            f"of SSIM; give images of at least {WINDOW_SIZE} x {WINDOW_SIZE}"
        )
    m, m2 = _windowed_mean(clean), _windowed_mean(adversarial)
    var = _windowed_mean(clean.square()) - m.square()
    var2 = _windowed_mean(adversarial.square()) - m2.square()
    cov = _windowed_mean(clean * adversarial) - m * m2
    structure = (2 * cov + C2) / (var + var2 + C2)
    luminance = (2 * m * m2 + C1) / (m.square() + m2.square() + C1)
    return (luminance * structure).flatten(1).mean(1)


def _windowed_mean(images: Tensor) -> Tensor:
    """The weighted mean in every window, computed separably."""
    weights = _gaussian_window(images).expand(images.shape[1], 1, 1, WINDOW_SIZE)
    rows = F.conv2d(images, weights, groups=images.shape[1])
    return F.conv2d(rows, weights.transpose(2, 3), groups=images.shape[1])


def _gaussian_window(like: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW_SIZE, dtype=torch.float64) - WINDOW_SIZE // 2
    weights = (-(offsets**2) / (2 * WINDOW_STD**2)).exp()
    return (weights / weights.sum()).to(like)
