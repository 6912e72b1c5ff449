"""How long an image takes at so many denoiser calls, on this machine."""

import time

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.evaluation.draws import image_ids, spread_labels
from scoreag.samplers import euler

CALLS = (18, 35, 64)
REPEATS = 3


@torch.no_grad()
def seconds(prior: Prior, images: int) -> Float[Tensor, " calls"]:
    """Seconds an image at each of ``CALLS``, ``images`` at once, by Euler: one call a step."""
    device, classes = prior.sigmas.device, len(prior.classes)
    labels = spread_labels(images, classes).to(device) if classes else None
    noise = Noise(0, image_ids(images, classes))

    def drawn(calls: int) -> float:
        levels = karras(calls).to(device)
        start = prior.start(noise)
        _wait(device)
        began = time.perf_counter()
        euler.sample(lambda x, sigma: prior.model(x, sigma, labels), start, levels, noise)
        _wait(device)
        return (time.perf_counter() - began) / images

    drawn(1)  # the first call chooses kernels
    return torch.tensor([drawn(calls) for calls in CALLS], dtype=torch.float64)


def _wait(device: torch.device) -> None:
    """A GPU goes on after Python came back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
