"""The share of a sampler's step that its noise takes: `python benchmarks/noise_share.py`.

For each bundled score model and batch size, the noise of a step and a call of the denoiser, in
turns, and the medians of both.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import machine

import scoreag
from scoreag.core.rng import Noise
from scoreag.diffusion.prior import Prior


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def share(prior: Prior, batch: int, repeats: int) -> tuple[float, float]:
    """Medians in seconds: the noise of a step, and a call of the denoiser."""
    place, noise = prior.sigmas.device, Noise(0, range(batch))
    x = torch.zeros(batch, *prior.image_shape, device=place)
    labels = torch.zeros(batch, dtype=torch.int64, device=place)
    sigma = torch.tensor(1.0, device=place)
    calls = (
        lambda: noise.fold_in("step", 1).normal_like(x),
        lambda: prior.model(x, sigma, labels),
    )
    times = [[seconds(call) for call in calls] for _ in range(repeats + 1)][1:]
    drawn, denoised = zip(*times, strict=True)
    return statistics.median(drawn), statistics.median(denoised)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(machine())
    for name in ("cifar10", "fashion-small"):
        prior = scoreag.load_prior(name)
        for batch in (1, 16, 64):
            noise, call = share(prior, batch, repeats)
            print(
                f"{name}, batch {batch}: noise {noise * 1e3:.2f} ms, denoiser {call * 1e3:.1f} ms, "
                f"share {noise / (noise + call):.1%}"
            )


if __name__ == "__main__":
    main()
