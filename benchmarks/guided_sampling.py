"""How fast is guided synthesis, and what makes it so?

Our default GAS beside the reference, which is what the published line of work runs: Euler-Maruyama
on the VP reverse SDE, 500 steps, weights that gather gradients too, plain autograd. Between them
one change at a time, also at equal numbers of denoiser calls. Each variant runs in a process of
its own, one after another: same model, same seeds, same classes.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from common import eight_bit, rate, resident, ruler, write
from torch import Tensor

import scoreag
from scoreag.core.batching import batch_ranges
from scoreag.core.rng import Noise
from scoreag.diffusion.parameterizations import with_labels
from scoreag.diffusion.prior import to_images
from scoreag.methods.guided_sampling import configure_prior, runner_up_class
from scoreag.methods.run_batch import run_batch
from scoreag.methods.synthesis import build_synthesis

REFERENCE = {
    "sampler": "euler_maruyama",
    "steps": 500,
    "sigma_start": 150.0,
    "attack_interval": None,
}


@dataclass(frozen=True)
class Variant:
    """``plain``: autograd that also fills the weights' gradients, by a loop of its own."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    plain: bool = False


def variants(calls: int) -> list[Variant]:
    """The reference, each single change to it, and ours; ``calls`` is what ours spends."""
    em = {name: value for name, value in REFERENCE.items() if name != "steps"}
    return [
        Variant("reference: Euler-Maruyama 500, weights not frozen", REFERENCE, plain=True),
        Variant("100 steps", {**em, "steps": 100}, plain=True),
        Variant("100 steps, weights frozen", {**em, "steps": 100}),
        Variant("100 steps, frozen, straight", {**em, "steps": 100, "jacobian": "identity"}),
        Variant(f"{calls} steps (our number of calls)", {**em, "steps": calls}, plain=True),
        Variant(f"{calls} steps, weights frozen", {**em, "steps": calls}),
        Variant(f"Euler, {calls} steps", {"sampler": "euler", "steps": calls}),
        Variant(f"ancestral, {calls} steps", {"sampler": "ancestral", "steps": calls}),
        Variant(f"Heun, {calls // 2} steps", {"sampler": "heun", "steps": calls // 2}),
        Variant("ours, guided at all levels", {"attack_interval": None}),
        Variant("ours"),
        Variant("ours, gradient straight", {"jacobian": "identity"}),
        Variant("ours, gradient symmetric", {"jacobian": "finite_difference"}),
        Variant("ours, scale searched for", {"attack_scale": "auto"}),
    ]


def plainly(job: Any) -> tuple[Tensor, Tensor, int]:
    """The draw of ``job`` as a script would do it: untargeted above 2, then the second class."""
    prior, calls, wrong = configure_prior(job.prior, job.config), 0, None
    prior.model.requires_grad_(True)
    victim, strength = job.classifier.module.requires_grad_(True), job.config.attack_scale
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (job.classifier.mean, job.classifier.std)
    )
    denoise = with_labels(prior.model, job.labels)

    def look(x0: Tensor) -> Tensor:
        return victim(((x0 + 1) / 2 - mean) / std)

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls, wrong
        calls += 1
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            x0 = denoise(leaf, sigma)
            logits = look(x0)
            if wrong is None and sigma < 2:
                wrong = runner_up_class(logits.detach(), job.labels)
            if wrong is None:
                others = logits.scatter(1, job.labels[:, None], -torch.inf)
                value = others.logsumexp(1) - logits.logsumexp(1)
            else:
                value = logits.log_softmax(1).gather(1, wrong[:, None])
            (strength * value).sum().backward()
        return x0.detach() + sigma**2 * leaf.grad

    noise = Noise(job.seed, job.image_ids)
    x0 = prior.sampler(guided, prior.initial_state(noise), prior.sigmas, noise)
    return to_images(x0.detach()), wrong, calls


def measure(variant: Variant, per_class: int, micro_batch: int) -> dict[str, Any]:
    """One variant in this process: outcome, calls an image, seconds, and peak memory."""
    prior, victim = scoreag.load_prior("cifar10"), scoreag.load_classifier("cifar10-resnet20")
    judge = ruler()
    labels = torch.arange(10).repeat_interleave(per_class)
    job = build_synthesis(
        prior, victim, labels, "runner_up", **{"attack_scale": 1.5, **variant.settings}
    )
    run_batch(replace(job.select(range(2)), config=replace(job.config, steps=2)))  # warm up
    started, parts, calls = time.perf_counter(), [], 0.0
    for piece in batch_ranges(len(job), micro_batch):
        if variant.plain:
            images, _, each = plainly(job.select(piece))
            calls += each * len(piece)
        else:
            out = run_batch(job.select(piece), pad_to=micro_batch)
            images, calls = out.images, calls + out.nfe.float().sum().item()
        parts.append(images)
    seconds = time.perf_counter() - started
    saved = eight_bit(torch.cat(parts))
    with torch.no_grad():
        says = victim(saved).argmax(1)
    return {
        "variant": variant.name,
        "success_8bit": rate(says != labels, "all images"),
        "judge": rate(judge.message(saved) == labels, "all images"),
        "calls": calls / len(job),
        "seconds": seconds,
        "peak_mib": resident(),
        "plain": variant.plain,
        "resolved": {**job.config.to_dict(job.task), "seed": job.seed},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--variant", type=int, help="only this one, as JSON on standard output")
    parser.add_argument("--variants", type=int, nargs="*", help="these, by number; all by default")
    parser.add_argument("--name", default="guided_sampling")
    args = parser.parse_args()
    prior = scoreag.load_prior("cifar10")
    ours = build_synthesis(prior, scoreag.load_classifier("cifar10-resnet20"), [0]).config
    known = variants(ours.steps * (2 if ours.sampler in ("heun", "edm_stochastic") else 1))
    if args.variant is not None:
        print(json.dumps(measure(known[args.variant], args.per_class, args.batch_size)))
        return
    rows = []
    for number in args.variants or range(len(known)):
        command = [sys.executable, __file__, "--variant", str(number)]
        command += ["--per-class", str(args.per_class), "--batch-size", str(args.batch_size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        row = rows[-1]
        print(
            f"{row['variant']:52} success {row['success_8bit']['value']:.2f} "
            f"judge {row['judge']['value']:.2f} calls {row['calls']:6.1f} "
            f"{row['seconds']:7.1f} s {row['peak_mib']:6.0f} MiB",
            flush=True,
        )
        write(args.name, {"per_class": args.per_class, "repeats": 1, "rows": rows})


if __name__ == "__main__":
    main()
