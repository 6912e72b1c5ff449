"""Learn to denoise: the loss and the noise distribution of Karras et al. (2022), table 1."""

import torch
from torch import Generator, Tensor, nn

from scoreag.core.types import Images, Labels
from scoreag.training.augment import flip


def edm_loss(
    model: nn.Module,
    images: Images,
    labels: Labels,
    source: Generator,
    null_label: int,
    dropped: float = 0.1,
    sigma_data: float = 0.5,
) -> Tensor:
    """``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, ``ln sigma ~ N(-1.2, 1.2^2)``.

    ``w = (sigma^2 + sd^2) / (sigma sd)^2`` makes every noise level count alike at the start.
    A share ``dropped`` of the labels is replaced by ``null_label``: one network learns both the
    class-conditional and the unconditional model (Ho and Salimans 2021).  All is drawn on the CPU,
    so that every device sees the same numbers.
    """
    x0 = 2 * flip(images, source) - 1
    sigma = (1.2 * torch.randn(len(x0), generator=source) - 1.2).exp().to(x0)
    n = torch.randn(x0.shape, generator=source).to(x0)
    withheld = (torch.rand(len(x0), generator=source) < dropped).to(labels.device)
    told = torch.where(withheld, null_label, labels).to(x0.device)
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    error = model(x0 + sigma[:, None, None, None] * n, sigma, told).float() - x0
    return (weight * error.square().flatten(1).mean(1)).mean()
