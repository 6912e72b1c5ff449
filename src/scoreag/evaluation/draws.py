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
from scoreag.load import load

Pixels = UInt8[Tensor, "_ channel height width"]


def spread_labels(count: int, classes: int) -> Labels:
    """0, 1, ..., 0, 1, ...: no class has two images more than another."""
    return torch.arange(count) % classes


def image_ids(count: int, classes: int) -> list[int]:
    """What the noise of each draw is keyed by: class * 1,000,000 + its number in the class."""
    width = max(1, classes)
    return [i % width * CLASS_STRIDE + i // width for i in range(count)]


def steps_of(calls: int) -> int:
    """Heun calls the denoiser twice a step, but once at the last: ``calls = 2 steps - 1``."""
    if calls < 1 or calls % 2 == 0:
        raise ValueError(
            f"{calls} denoiser calls are no whole number of Heun's steps; "
            f"write an odd number, e.g. {max(calls, 0) + 1}"
        )
    return (calls + 1) // 2


def draw(
    prior: Prior,
    folder: Path,
    name: str,
    count: int,
    calls: int = 35,
    seed: int = 0,
    micro_batch: int = 16,
    progress: bool = True,
) -> Pixels:
    """``count`` images, class by class in turn, by Heun with ``calls`` denoiser calls.

    The network sees ``micro_batch`` images at a time, the last of them padded, which are a piece
    of what is kept.
    """
    levels = karras(steps_of(calls)).to(prior.sigmas.device)
    prior = replace(prior, sampler=load("samplers", "heun").sample, sigmas=levels)
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
