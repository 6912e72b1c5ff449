"""What a score model draws when nothing guides it: images of every class, in 8 bits, kept on disk.

An image is that of ``scoreag synthesize --strength 0``: its noise is keyed by the seed, the class
and the how-manieth of its class it is.
"""

from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.core.types import Labels
from scoreag.evaluation.shards import kept
from scoreag.images import to_uint8
from scoreag.jobs import CLASS_STRIDE
from scoreag.load import hint, load, names

SAMPLER, CALLS = "ancestral", 35  # fresh noise at each step mends what the network got wrong
TWICE = ("heun", "churn")  # samplers that call the denoiser twice a step, but once at the last

Pixels = UInt8[Tensor, "_ channel height width"]


def spread_labels(count: int, classes: int) -> Labels:
    """0, 1, ..., 0, 1, ...: no class has two images more than another."""
    return torch.arange(count) % classes


def image_ids(count: int, classes: int) -> list[int]:
    """What the noise of each draw is keyed by: class * 1,000,000 + its number in the class."""
    width = max(1, classes)
    return [i % width * CLASS_STRIDE + i // width for i in range(count)]


def steps_of(sampler: str, calls: int) -> int:
    """As many as calls; Heun's methods call twice a step, but once at the last.

    Raises:
        ValueError: there is no such sampler, or the calls are no whole number of its steps.
    """
    if sampler not in names("samplers"):
        raise ValueError(f"no sampler {sampler!r}; {hint(sampler, names('samplers'))}")
    if sampler not in TWICE:
        if calls < 1:
            raise ValueError(f"{calls} denoiser calls draw nothing; write 1 or more, e.g. {CALLS}")
        return calls
    if calls < 1 or calls % 2 == 0:
        raise ValueError(
            f"{calls} denoiser calls are no whole number of steps of {sampler}, which calls twice "
            f"a step and once at the last; write an odd number, e.g. {max(calls, 0) + 1}"
        )
    return (calls + 1) // 2


def draw(
    prior: Prior,
    folder: Path,
    name: str,
    count: int,
    sampler: str = SAMPLER,
    calls: int = CALLS,
    seed: int = 0,
    micro_batch: int = 16,
    progress: bool = True,
) -> Pixels:
    """``count`` images, class by class in turn, with ``calls`` denoiser calls each.

    The network sees ``micro_batch`` images at a time, the last of them padded, which are a piece
    of what is kept.
    """
    method = load("samplers", sampler)
    levels = getattr(method, "grid", karras)(steps_of(sampler, calls)).to(prior.sigmas.device)
    prior = replace(prior, sampler=method.sample, sigmas=levels)
    ids, width = image_ids(count, len(prior.classes)), len(prior.classes)

    @torch.no_grad()
    def drawn(piece: range) -> Pixels:
        padded = [*piece, *[piece[-1]] * (micro_batch - len(piece))]
        noise = Noise(seed, [ids[i] for i in padded])
        labels = torch.tensor([i % width for i in padded]).to(levels.device) if width else None
        images = prior.draw(noise, labels)[: len(piece)]
        if not images.isfinite().all():
            raise ValueError(f"{name}: the draws are not finite; the weights are damaged")
        return to_uint8(images)

    return kept(folder, f"draws-{name}", count, micro_batch, drawn, progress)
