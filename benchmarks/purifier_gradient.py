"""The gradient through a purifier: ours, plain autograd, checkpoints, torchsde's adjoint.

One chain, one noise. Each measurement is a process of its own, in rounds, so that what a machine
does meanwhile meets all ways alike; beside each, one forward pass of the network. The memory is
that above the level just before the chain, and the error is to plain autograd in float64. The
adjoint solves another equation backwards, which is why its error stays however exact its numbers
are.
"""

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import resident, write
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import scoreag
from scoreag.core.rng import Noise
from scoreag.diffusion import solver
from scoreag.diffusion.noise_schedules import vp_beta, vp_sigma, vp_time
from scoreag.diffusion.prior import Prior, to_images, to_model_range
from scoreag.diffusion.samplers import euler_maruyama
from scoreag.methods.config import SamplingConfig, resolve_config
from scoreag.registry import load_component

CHAINS = {
    "diffpure": {"sampler": "euler_maruyama", "sigma_start": 0.34},
    "gap": {"sampler": "heun", "sigma_start": 0.34},
}
WAYS = ("plain", "scoreag", "checkpoint", "torchsde adjoint")
EACH = ("seconds", "forward", "mib")  # of every round


class Plain:
    apply = staticmethod(lambda function, x, *wrt: function(x))


class Checkpointed:
    apply = staticmethod(lambda function, x, *wrt: checkpoint(function, x, use_reentrant=False))


def by_adjoint(prior: Prior, images: Tensor, settings: SamplingConfig, noise: Noise) -> Tensor:
    """DiffPure's chain of Euler-Maruyama steps, by torchsde, which differentiates by its adjoint.

    In VP coordinates and backward time: dx = beta (x/2 + score) ds + sqrt(beta) dw. The last step
    adds no noise and is taken by hand.
    """
    import torchsde

    sigmas = settings.sigmas().to(images)
    times = vp_time(sigmas.double())
    start, span, steps = float(times[0]), float(times[0] - times[-2]), len(times) - 2
    dt = span / steps
    x = to_model_range(images)
    x = (x + sigmas[0] * noise.fold_in("start").normal_like(x)) / (1 + sigmas[0] ** 2).sqrt()
    shape = x.shape
    rows = [noise.fold_in("step", i).normal_like(x).flatten(1) * dt**0.5 for i in range(steps)]
    path = torch.stack([torch.zeros_like(rows[0]), *rows]).cumsum(0)

    class Path_(torchsde.BaseBrownian):
        dtype, device, levy_area_approximation = x.dtype, x.device, "none"
        shape = rows[0].shape

        def __call__(self, ta: Any, tb: Any = None, **_: Any) -> Tensor:
            return path[round(float(tb) / dt)] - path[round(float(ta) / dt)]

        def __repr__(self) -> str:
            return "a path of given steps"

    class Reverse(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def level(self, s: Any) -> Tensor:
            return vp_sigma(torch.tensor(start - float(s), dtype=torch.float64)).to(images)

        def f(self, s: Any, flat: Tensor) -> Tensor:
            sigma = self.level(s)
            wide = flat.unflatten(1, shape[1:]) * (1 + sigma**2).sqrt()
            score = (prior.model(wide, sigma) - wide) * (1 + sigma**2).sqrt() / sigma**2
            return vp_beta(sigma) * (flat / 2 + score.flatten(1))

        def g(self, s: Any, flat: Tensor) -> Tensor:
            return vp_beta(self.level(s)).sqrt().expand_as(flat)

    ends = torch.tensor([0.0, span]).to(images)
    solved = torchsde.sdeint_adjoint(
        Reverse(), x.flatten(1), ends, bm=Path_(), dt=dt, method="euler", adjoint_method="euler",
        adjoint_params=(),
    )  # fmt: skip
    last = solved[-1].unflatten(1, shape[1:]) * (1 + sigmas[-2] ** 2).sqrt()
    return to_images(euler_maruyama.step(prior.model, last, *sigmas[-2:], noise))


def measure(way: str, name: str, steps: int, batch: int, truth: Path) -> dict[str, Any]:
    part = load_component("purifiers", name)
    double = not truth.exists()
    prior = scoreag.load_prior("cifar10", "cpu").to(torch.float64 if double else torch.float32)
    settings = resolve_config(prior, part.CARD_SECTION, part.CONFIG_FIELDS, part.DEFAULTS, {
        **CHAINS[name], "steps": steps})  # fmt: skip
    purify = by_adjoint if way == "torchsde adjoint" else part.purify
    kinds = {"plain": Plain, "checkpoint": Checkpointed}
    solver._CheckpointedCall = kinds.get(way, solver._CheckpointedCall)
    source = torch.Generator().manual_seed(0)
    images = torch.rand(batch, *prior.image_shape, generator=source).to(prior.dtype)
    weights = torch.randn(images.shape, generator=source).to(images)
    run = partial(gradient, purify, prior, settings, weights)
    if not double:  # warm up
        gradient(purify, prior, settings, weights[:1], images[:1])
    forward = forward_pass(prior, images)
    calls: list[int] = []
    prior.model.register_forward_hook(lambda *_: calls.append(1))
    before, began = resident(), time.perf_counter()
    found = run(images)
    spent = {"seconds": time.perf_counter() - began, "mib": resident() - before}
    if double:
        torch.save(found, truth)
    true = torch.load(truth)
    error = float((found.double() - true).norm() / true.norm())
    resolved = {"purifier": name, **settings.subset(part.TAKES), "seed": 0}
    return {
        **spent, "forward": forward, "error": error, "evaluations": len(calls),
        "resolved": resolved,
    }  # fmt: skip


@torch.no_grad()
def forward_pass(prior: Prior, images: Tensor) -> float:
    """Seconds of one evaluation of the network, the median of three."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        prior.model(to_model_range(images), torch.tensor(1.0).to(images))
        took.append(time.perf_counter() - began)
    return median(took)


def gradient(
    purify: Any, prior: Prior, settings: SamplingConfig, weights: Tensor, images: Tensor
) -> Tensor:
    leaf = images.clone().requires_grad_()
    value = (purify(prior, leaf, settings, Noise(0, range(len(leaf)))) * weights).sum()
    return torch.autograd.grad(value, leaf)[0]


def have_torchsde() -> bool:
    try:
        import torchsde  # noqa: F401
    except ImportError:
        return False
    return True


def apart(args: argparse.Namespace, way: str, name: str, truth: Path) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    sizes = ["--batch", str(args.batch), "--steps", str(args.steps)]
    command = [sys.executable, __file__, *sizes, "--one", way, name, str(truth)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, help="way, chain, and the file of the truth")
    args = parser.parse_args()
    if args.one:
        way, name, truth = args.one
        print(json.dumps(measure(way, name, args.steps, args.batch, Path(truth))))
        return
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with TemporaryDirectory() as aside:
        for number in range(args.repeats + 1):  # the first, plain in float64, is the truth
            for name, way in product(CHAINS, WAYS if number else WAYS[:1]):
                if way == WAYS[-1] and (name != "diffpure" or not have_torchsde()):
                    continue
                found = apart(args, way, name, Path(aside) / f"{name}.pt")
                if number:
                    row = rows.setdefault(
                        (name, way), {"way": way, **found, **{n: [] for n in EACH}}
                    )
                    for each in EACH:
                        row[each].append(found[each])
                    print(name, way, {each: found[each] for each in EACH}, flush=True)
            told = {"batch": args.batch, "steps": args.steps, "repeats": number}
            if rows:
                write("purifier_gradient", {**told, "rows": [*rows.values()]})


if __name__ == "__main__":
    main()
