"""Peak memory of the exact gradient of a guided purification, over the number of steps.

The bundled model, attention and guidance on. Each measurement is a process of its own; the
memory is that above the level just before the chain. Plain autograd stands beside it.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import torch
from common import resident, write

import scoreag
from scoreag.core.rng import Noise
from scoreag.diffusion.guidance import guide
from scoreag.diffusion.likelihoods import reconstruction
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import to_model_range
from scoreag.methods.config import resolve_task_config
from scoreag.methods.guided_sampling import configure_prior
from scoreag.registry import load_component


def measure(steps: int, batch: int, plain: bool) -> dict[str, Any]:
    prior = scoreag.load_prior("cifar10")
    settings = resolve_task_config(prior, "purify", steps=steps, sampler="heun")
    prior = configure_prior(prior, settings)
    noise = Noise(0, range(batch))
    images = torch.rand(batch, *prior.image_shape, generator=torch.Generator().manual_seed(0))
    with_labels(prior.model, None)(images[:1], torch.tensor(1.0))  # warm up
    images.requires_grad_()
    before, started = resident(), time.perf_counter()
    reference = to_model_range(images)
    guided = guide(with_labels(prior.model, None), reconstruction(reference, settings.similarity))
    x = prior.initial_state(noise, reference)
    if plain:
        step = load_component("samplers", "heun").step
        for i, (sigma, lower) in enumerate(pairwise(prior.sigmas.to(x))):
            x = step(guided, x, sigma, lower, noise.fold_in("step", i))
    else:
        x = prior.sampler(guided, x, prior.sigmas, noise, wrt=[reference])
    x.square().sum().backward()
    spent = {"mib": resident() - before, "seconds": time.perf_counter() - started}
    return {**spent, "resolved": {**settings.to_dict("purify"), "seed": 0}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--one", type=int, nargs=2, help="steps, and 1 for plain autograd")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], args.batch, bool(args.one[1]))))
        return
    rows = []
    for steps, plain in ((5, True), (5, False), (20, False), (100, False)):
        command = [sys.executable, __file__, "--batch", str(args.batch), "--one", str(steps)]
        done = subprocess.run(
            [*command, str(int(plain))], check=True, capture_output=True, text=True
        )
        rows.append({"steps": steps, "plain": plain, **json.loads(done.stdout)})
        print(rows[-1], flush=True)
        write("gradient_memory", {"batch": args.batch, "repeats": 1, "rows": rows})


if __name__ == "__main__":
    main()
