"""Parts of speed.py that run whole chains: samplers, gradients, certificates."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import torch
from common import resident
from purifier_gradient import Checkpointed, Plain, by_adjoint, gradient
from speed_peers import copies_loop
from torch import Tensor

import scoreag
from scoreag.certify.smoothing import SmoothingConfig
from scoreag.certify.votes import count_votes
from scoreag.core.rng import Noise
from scoreag.diffusion import solver
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import resolve_config
from scoreag.metrics.feature_distances import compute_moments, frechet_distance
from scoreag.registry import component_names, load_component

Row: TypeAlias = dict[str, Any]
Turns: TypeAlias = Callable[[Mapping[str, Callable[[], Any]], int], dict[str, list[float]]]
MODEL, JUDGE, DATA = "fashion-small", "fashion-judge", "fashion-mnist:test"

BATCH, SAMPLED, REAL = 16, 96, 2000
STEPS_TRIED, REFERENCE_STEPS, TOLERANCE = (6, 9, 12, 18), 12, 1.1


def sampler_part(data_dir: Path | None) -> Row:
    """For each sampler the fewest steps whose samples are as good as Heun's, and their pace.

    As good: a Fréchet distance in the judge's features of at most 1.1 times that of Heun in 12
    steps, both of the same images' noise. A round is a batch.
    """
    prior = scoreag.load_prior(MODEL, "cpu")
    judge = scoreag.load_classifier(JUDGE, "cpu")
    assert judge.features is not None
    images, _ = scoreag.load_data(f"{DATA}[0:{REAL}]", data_dir=data_dir)
    with torch.no_grad():
        real = compute_moments(images, judge.features, JUDGE)
        start = _sample_all(prior, "heun", REFERENCE_STEPS)
        limit = TOLERANCE * frechet_distance(compute_moments(start[0], judge.features, JUDGE), real)
        rows = []
        for name in component_names("samplers"):
            for steps in STEPS_TRIED:
                drawn, seconds, calls = _sample_all(prior, name, steps)
                found = frechet_distance(compute_moments(drawn, judge.features, JUDGE), real)
                if found <= limit:
                    break
            rows.append({"side": name, "steps": steps, "calls": calls, "frechet": found,
                         "reached": bool(found <= limit), "seconds": seconds})  # fmt: skip
    return {"model": MODEL, "images": SAMPLED, "batch": BATCH, "limit": limit, "rows": rows}


def _sample_all(prior: Prior, name: str, steps: int) -> tuple[Tensor, list[float], float]:
    """Samples, the seconds of each batch, and network calls an image."""
    part = load_component("samplers", name)
    levels = getattr(part, "noise_schedule", karras)(steps, sigma_max=80.0)
    calls: list[int] = []

    def counted(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        calls.append(len(x))
        return prior.model(x, sigma, labels)

    chain = replace(prior, sampler=part.sample, sigmas=levels, model=counted)
    drawn, seconds = [], []
    for first in range(0, SAMPLED, BATCH):
        ids = range(first, first + BATCH)
        began = time.process_time()
        drawn.append(chain.sample(Noise(0, ids), torch.tensor([i % 10 for i in ids])))
        seconds.append(round(time.process_time() - began, 5))
    return torch.cat(drawn), seconds, sum(calls) / SAMPLED


GRADIENT_STEPS, GRADIENT_BATCH = (5, 20, 100), 2
WAYS: dict[str, Any] = {
    "ours": None, "plain autograd": Plain, "checkpointing": Checkpointed, "torchsde's adjoint": None
}  # fmt: skip


def gradient_part(repeats: int) -> Row:
    """DiffPure's exact gradient, four ways; each measurement is a process forked for it."""
    prior = scoreag.load_prior(MODEL, "cpu")
    forward = _forked(_forward, prior)
    rows: dict[tuple[int, str], Row] = {}
    for _ in range(repeats):
        for steps in GRADIENT_STEPS:
            for way in WAYS:
                one = _forked(_gradient_once, prior, way, steps)
                row = rows.setdefault(
                    (steps, way),
                    {"side": way, "steps": steps, "evaluations": one["evaluations"],
                     "seconds": [], "mib": []},
                )  # fmt: skip
                row["seconds"].append(one["seconds"])
                row["mib"].append(one["mib"])
    return {"model": MODEL, "batch": GRADIENT_BATCH, "forward": forward, "rows": [*rows.values()]}


def _forked(measure: Callable[..., Any], *inputs: Any) -> Any:
    context = get_context("fork")
    ours, other = context.Pipe()
    process = context.Process(target=lambda: other.send(measure(*inputs)))
    process.start()
    found = ours.recv()
    process.join()
    return found


@torch.no_grad()
def _forward(prior: Prior) -> float:
    """Seconds of a forward pass of the network, the median of nine."""
    images, took = torch.rand(GRADIENT_BATCH, *prior.image_shape), []
    for _ in range(9):
        began = time.process_time()
        prior.model(images, torch.tensor(1.0))
        took.append(time.process_time() - began)
    return median(took)


def _gradient_once(prior: Prior, way: str, steps: int) -> Row:
    part = load_component("purifiers", "diffpure")
    options = {"sampler": "euler_maruyama", "sigma_start": 0.34, "steps": steps}
    config = resolve_config(prior, part.CARD_SECTION, part.CONFIG_FIELDS, part.DEFAULTS, options)
    if WAYS[way] is not None:
        solver._CheckpointedCall = WAYS[way]
    purify = by_adjoint if way == "torchsde's adjoint" else part.purify
    source = torch.Generator().manual_seed(0)
    images = torch.rand(GRADIENT_BATCH, *prior.image_shape, generator=source)
    weights = torch.randn(images.shape, generator=source)
    calls: list[int] = []
    prior.model.register_forward_hook(lambda *_: calls.append(1))
    before, began = resident(), time.process_time()
    gradient(purify, prior, config, weights, images)
    spent = time.process_time() - began
    return {"seconds": spent, "mib": resident() - before, "evaluations": len(calls)}


COPIES, COPY_BATCH, COPY_SIGMA = 512, 64, 0.25


def certificate_part(repeats: int, in_turns: Turns) -> Row:
    """Noisy copies a second: our votes with their keyed noise, and the published loop."""
    victim = scoreag.load_classifier("cifar10-resnet20", "cpu")
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    config = SmoothingConfig(
        sigma=COPY_SIGMA, n0=COPY_BATCH, n=COPIES - COPY_BATCH, batch_size=COPY_BATCH
    )

    def noisy(copies: Tensor, noise: Noise) -> Tensor:
        return copies + COPY_SIGMA * noise.normal_like(copies)

    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: count_votes(victim, noisy, image, 0, config, unclamped=True),
        "loop of Cohen et al.": lambda: copies_loop(victim, image, COPY_SIGMA, COPIES, COPY_BATCH),
    }
    seconds = in_turns(sides, repeats)
    rows = [{"side": name, "copies": COPIES, "seconds": took} for name, took in seconds.items()]
    return {"classifier": "cifar10-resnet20", "batch": COPY_BATCH, "rows": rows}
