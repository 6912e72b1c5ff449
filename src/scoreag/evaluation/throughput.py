"""How long an image takes at so many denoiser calls, on this machine."""

import time

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import euler
from scoreag.evaluation.sampling import cycle_labels, make_image_ids

NFE_VALUES = (18, 35, 64)
REPEATS = 3


@torch.no_grad()
def measure_seconds(prior: Prior, batch_size: int) -> Float[Tensor, " calls"]:
    """Seconds an image at each of ``CALLS``, ``images`` at once, by Euler: one call a step."""
    device, classes = prior.sigmas.device, len(prior.classes)
    labels = cycle_labels(batch_size, classes).to(device) if classes else None
    noise = Noise(0, make_image_ids(batch_size, classes))

    def drawn(calls: int) -> float:
        levels = karras(calls).to(device)
        start = prior.initial_state(noise)
        _synchronize(device)
        began = time.perf_counter()
        euler.sample(lambda x, sigma: prior.model(x, sigma, labels), start, levels, noise)
        _synchronize(device)
        return (time.perf_counter() - began) / batch_size

    drawn(1)  # the first call chooses kernels
    return torch.tensor([drawn(calls) for calls in NFE_VALUES], dtype=torch.float64)


def _synchronize(device: torch.device) -> None:
    """A GPU goes on after Python came back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
