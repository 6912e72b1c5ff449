"""Unguided images of every class by a score model: kept on disk in 8 bits, in grids, and timed.

An image is that of ``scoreag synthesize --attack-scale 0``: its noise is keyed by the seed, the
class and its number in the class.
"""

import time
from collections.abc import Sequence
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
from scoreag.evaluation.score_metrics import NearestPairs
from scoreag.evaluation.storage import SAMPLES_DIR, load_or_compute
from scoreag.io.images import make_grid, to_uint8, write_png
from scoreag.methods.task import IDS_PER_CLASS
from scoreag.metrics.feature_extractors import Pixels
from scoreag.registry import component_names, did_you_mean, load_component

# fresh noise at each step mends what the network got wrong
DEFAULT_SAMPLER, DEFAULT_NFE = "ancestral", 35
SECOND_ORDER_SAMPLERS = ("heun", "edm_stochastic")  # two calls a step, but one at the last
GRID_COLUMNS, MAX_PER_CLASS = 10, 100
NFE_VALUES = (18, 35, 64)  # at which the time is taken
REPEATS = 3


def cycle_labels(count: int, n_classes: int) -> Labels:
    """0, 1, ..., 0, 1, ...: no class has two images more than another."""
    return torch.arange(count) % n_classes


def make_image_ids(count: int, n_classes: int) -> list[int]:
    """What the noise of each image is keyed by: class * 1,000,000 + its number in the class."""
    n = max(1, n_classes)
    return [i % n * IDS_PER_CLASS + i // n for i in range(count)]


def steps_for_nfe(sampler: str, nfe: int) -> int:
    """As many as denoiser calls; second-order samplers call twice a step, but once at the last.

    Raises:
        ValueError: there is no such sampler, or the calls are no whole number of its steps.
    """
    known = component_names("samplers")
    if sampler not in known:
        raise ValueError(f"no sampler {sampler!r}; {did_you_mean(sampler, known)}")
    if sampler not in SECOND_ORDER_SAMPLERS:
        if nfe < 1:
            raise ValueError(
                f"{nfe} denoiser calls draw nothing; write 1 or more, e.g. {DEFAULT_NFE}"
            )
        return nfe
    if nfe < 1 or nfe % 2 == 0:
        raise ValueError(
            f"{nfe} denoiser calls are no whole number of steps of {sampler}, which calls twice "
            f"a step and once at the last; write an odd number, e.g. {max(nfe, 0) + 1}"
        )
    return (nfe + 1) // 2


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
    """``count`` images, class by class in turn; a batch, padded to ``batch_size``, is a chunk."""
    component = load_component("samplers", sampler)
    grid = getattr(component, "grid", karras)
    sigmas = grid(steps_for_nfe(sampler, nfe)).to(prior.sigmas.device)
    prior = replace(prior, sampler=component.sample, sigmas=sigmas)
    n_classes = len(prior.classes)
    ids = make_image_ids(count, n_classes)

    @torch.no_grad()
    def generate(positions: range) -> Pixels:
        padded = [*positions, *[positions[-1]] * (batch_size - len(positions))]
        noise = Noise(seed, [ids[i] for i in padded])
        labels = torch.tensor([i % n_classes for i in padded]) if n_classes else None
        labels = labels if labels is None else labels.to(sigmas.device)
        images = prior.sample(noise, labels)[: len(positions)]
        if not images.isfinite().all():
            raise ValueError(f"{name}: the images are not finite; the weights are damaged")
        return to_uint8(images)

    return load_or_compute(folder, f"draws-{name}", count, batch_size, generate, progress)


def select_class(pixels: Pixels, class_index: int, n_classes: int) -> Pixels:
    """The images of one class, which are every ``n_classes``-th."""
    return pixels[class_index :: max(1, n_classes)]


def write_sample_grids(
    folder: Path, pixels: Pixels, classes: Sequence[str], pairs: NearestPairs
) -> None:
    """Write samples/class-000.png, ... and samples/nearest.png: pairs of nearest images."""
    (folder / SAMPLES_DIR).mkdir(exist_ok=True)
    for number in range(max(1, min(len(classes), len(pixels)))):
        images = select_class(pixels, number, len(classes))[:MAX_PER_CLASS]
        file = folder / SAMPLES_DIR / f"class-{number:03d}.png"
        write_png(file, make_grid(images, GRID_COLUMNS))
    nearest = torch.stack([pairs.generated, pairs.training], 1).flatten(0, 1)
    write_png(folder / SAMPLES_DIR / "nearest.png", make_grid(nearest, 2))


@torch.no_grad()
def measure_seconds(prior: Prior, batch_size: int) -> Float[Tensor, " calls"]:
    """Seconds an image at each of ``NFE_VALUES``, by Euler: one denoiser call a step."""
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
    """A GPU goes on after Python came back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
