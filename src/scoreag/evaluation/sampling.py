"""What a score model draws when nothing guides it: images of every class, in 8 bits, kept on disk.

An image is that of ``scoreag synthesize --attack-scale 0``: its noise is keyed by the seed, the class
and the how-manieth of its class it is.
"""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Labels
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.evaluation.storage import load_or_compute
from scoreag.io.images import to_uint8
from scoreag.methods.validation import IDS_PER_CLASS
from scoreag.registry import component_names, did_you_mean, load_component

DEFAULT_SAMPLER, DEFAULT_NFE = (
    "ancestral",
    35,
)  # fresh noise at each step mends what the network got wrong
SECOND_ORDER_SAMPLERS = (
    "heun",
    "edm_stochastic",
)  # samplers that call the denoiser twice a step, but once at the last

Pixels = UInt8[Tensor, "_ channel height width"]


def cycle_labels(count: int, n_classes: int) -> Labels:
    """0, 1, ..., 0, 1, ...: no class has two images more than another."""
    return torch.arange(count) % n_classes


def make_image_ids(count: int, n_classes: int) -> list[int]:
    """What the noise of each draw is keyed by: class * 1,000,000 + its number in the class."""
    width = max(1, n_classes)
    return [i % width * IDS_PER_CLASS + i // width for i in range(count)]


def steps_for_nfe(sampler: str, nfe: int) -> int:
    """As many as calls; Heun's methods call twice a step, but once at the last.

    Raises:
        ValueError: there is no such sampler, or the calls are no whole number of its steps.
    """
    if sampler not in component_names("samplers"):
        raise ValueError(
            f"no sampler {sampler!r}; {did_you_mean(sampler, component_names('samplers'))}"
        )
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
    """``count`` images, class by class in turn, with ``calls`` denoiser calls each.

    The network sees ``micro_batch`` images at a time, the last of them padded, which are a piece
    of what is kept.
    """
    method = load_component("samplers", sampler)
    levels = getattr(method, "grid", karras)(steps_for_nfe(sampler, nfe)).to(prior.sigmas.device)
    prior = replace(prior, sampler=method.sample, sigmas=levels)
    ids, width = make_image_ids(count, len(prior.classes)), len(prior.classes)

    @torch.no_grad()
    def drawn(piece: range) -> Pixels:
        padded = [*piece, *[piece[-1]] * (batch_size - len(piece))]
        noise = Noise(seed, [ids[i] for i in padded])
        labels = torch.tensor([i % width for i in padded]).to(levels.device) if width else None
        images = prior.sample(noise, labels)[: len(piece)]
        if not images.isfinite().all():
            raise ValueError(f"{name}: the draws are not finite; the weights are damaged")
        return to_uint8(images)

    return load_or_compute(folder, f"draws-{name}", count, batch_size, drawn, progress)
