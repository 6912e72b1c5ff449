"""Unguided samples of every class by a score model, cached on disk, and the time that they take.

A sample equals that of ``scoreag synthesize --attack-scale 0``: its noise is keyed by the seed, the
class and its number in the class.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import euler
from scoreag.evaluation.storage import load_or_compute
from scoreag.io.images import to_uint8
from scoreag.methods.task import IDS_PER_CLASS
from scoreag.metrics.feature_extractors import Pixels
from scoreag.registry import component_names, did_you_mean, load_component

# fresh noise at each step corrects errors of the network
DEFAULT_SAMPLER, DEFAULT_NFE = "ancestral", 35
MAX_FIRST_STEPS = 10  # of a sampler's shortest chain
NFE_VALUES = (18, 35, 64)  # whose time is measured
REPEATS = 3


def cycle_labels(count: int, n_classes: int) -> Labels:
    """0, 1, ..., 0, 1, ...: the classes have equal numbers of images, up to one."""
    return torch.arange(count) % n_classes


def make_image_ids(count: int, n_classes: int) -> list[int]:
    """The image ids, which key the noise: class * 1,000,000 + number in the class."""
    n = max(1, n_classes)
    return [i % n * IDS_PER_CLASS + i // n for i in range(count)]


def count_calls(sampler: str, steps: int) -> int:
    """The denoiser calls of a sampler at so many noise levels: it is run on one number."""
    component = load_component("samplers", sampler)
    calls = 0

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros_like(x)

    sigmas = getattr(component, "noise_schedule", karras)(steps)
    component.sample(denoise, torch.zeros(1, 1, dtype=sigmas.dtype), sigmas, Noise(0, [0]))
    return calls


def steps_for_nfe(sampler: str, nfe: int) -> int:
    """The steps of a sampler that calls the denoiser ``nfe`` times.

    Raises:
        ValueError: there is no such sampler, or the calls are no whole number of its steps.
    """
    known = component_names("samplers")
    if sampler not in known:
        raise ValueError(f"no sampler {sampler!r}; {did_you_mean(sampler, known)}")
    if nfe < 1:
        raise ValueError(f"{nfe} denoiser calls draw nothing; write 1 or more, e.g. {DEFAULT_NFE}")
    first = next(n for n in range(1, MAX_FIRST_STEPS) if _can_run(sampler, n))
    least = count_calls(sampler, first)
    per_step = count_calls(sampler, first + 1) - least
    more, rest = divmod(nfe - least, per_step)
    if more < 0 or rest:
        above = least + max(0, more + 1) * per_step
        raise ValueError(
            f"{nfe} denoiser calls are no whole number of steps of {sampler}, which calls "
            f"{least} times and {per_step} more for each further step; write e.g. {above}"
        )
    return first + more


def _can_run(sampler: str, steps: int) -> bool:
    try:
        count_calls(sampler, steps)
    except ValueError:  # restart needs a level between those of its interval
        return False
    return True


def generate_samples(
    prior: Prior,
    folder: Path,
    name: str,
    count: int,
    sampler: str = DEFAULT_SAMPLER,
    nfe: int = DEFAULT_NFE,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = True,
) -> Pixels:
    """``count`` images, the classes in turn; a batch, padded to ``batch_size``, is a chunk."""
    component = load_component("samplers", sampler)
    schedule = getattr(component, "noise_schedule", karras)
    sigmas = schedule(steps_for_nfe(sampler, nfe)).to(prior.sigmas.device)
    prior = replace(prior, sampler=component.sample, sigmas=sigmas)
    n_classes = len(prior.classes)
    ids = make_image_ids(count, n_classes)

    @torch.no_grad()
    def generate(positions: range) -> Pixels:
        padded = [*positions, *[positions[-1]] * (batch_size - len(positions))]
        noise = Noise(seed, [ids[i] for i in padded])
        labels = None
        if n_classes:
            labels = torch.tensor([i % n_classes for i in padded]).to(sigmas.device)
        images = prior.sample(noise, labels)[: len(positions)]
        if not images.isfinite().all():
            raise ValueError(f"{name}: the images are not finite; the weights are damaged")
        return to_uint8(images)

    return load_or_compute(folder, f"draws-{name}", count, batch_size, generate, progress)


def select_class(pixels: Pixels, class_index: int, n_classes: int) -> Pixels:
    """The images of one class, which are every ``n_classes``-th."""
    return pixels[class_index :: max(1, n_classes)]


@torch.no_grad()
def measure_seconds(prior: Prior, batch_size: int) -> Float[Tensor, " calls"]:
    """Seconds per image at each of ``NFE_VALUES``, by Euler: one denoiser call a step."""
    device, classes = prior.sigmas.device, len(prior.classes)
    labels = cycle_labels(batch_size, classes).to(device) if classes else None
    noise = Noise(0, make_image_ids(batch_size, classes))

    def measure(nfe: int) -> float:
        sigmas = karras(nfe).to(device)
        x = prior.initial_state(noise)
        _synchronize(device)
        start = time.perf_counter()
        euler.sample(lambda x, sigma: prior.model(x, sigma, labels), x, sigmas, noise)
        _synchronize(device)
        return (time.perf_counter() - start) / batch_size

    measure(1)  # the first call chooses kernels
    return torch.tensor([measure(nfe) for nfe in NFE_VALUES], dtype=torch.float64)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
