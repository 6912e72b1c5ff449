"""A running average of a network's weights, which is better than its last ones."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(
    average: nn.Module, network: nn.Module, batch_size: int, images_seen: int, rampup_ratio: float
) -> None:
    """One update after ``batch`` images: ``average += (1 - b) (network - average)``.

    ``b = 2^(-batch / h)`` with the half-life ``h = ramp * seen``, counted in images, that grows
    with the training (Karras et al. 2022, appendix F.2), so that the start is soon forgotten.
    """
    weight = 1 - 0.5 ** (batch_size / max(rampup_ratio * images_seen, 1e-9))
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, weight)
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(now)
