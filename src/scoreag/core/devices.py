"""Moving tensors to a device."""

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on ``device``; where that is a GPU, neither it nor the program waits for the copy.

    A copy from pageable memory would end only when the GPU has done all that came before it.
    """
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
