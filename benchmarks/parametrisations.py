"""Does it matter what a network is trained to say?  One denoiser as EDM, VP and VE.

A trained EDM denoiser is re-expressed as the networks of VP and VE would be, and the same GAT and
GAP run along each family's own ODE and noise levels: how far from the same image, by steps.  Then:
what the three x0-estimates change.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch
from common import Row, attacked, given_images, options_of_settings, rate, short, write
from reexpressed import FAMILIES, apart, as_family
from torch import Tensor

import scoreag
from scoreag.attacks import pgd
from scoreag.core.rng import Noise
from scoreag.diffusion.guidance import X0_ESTIMATES
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.purification import build_purification
from scoreag.methods.result import Result
from scoreag.methods.run_task import run_in_memory
from scoreag.methods.transformation import build_transformation

Draw: TypeAlias = Callable[..., Result]
BEFORE = "images that were right before"
SIGMAS = (0.01, 0.1, 1.0, 10.0, 80.0)
SOLVERS = {1: "euler", 2: "heun"}
CHAINS = (("edm", "edm"), ("vp", "vp"), ("vp", "edm"), ("ve", "ve"), ("ve", "edm"))  # path, levels


@dataclass(frozen=True)
class Given:
    """A classifier, and images with labels; both tasks at the card's settings, without retries."""

    victim: Any
    images: Tensor
    labels: Tensor

    def gat(self, prior: Prior, **settings: Any) -> Result:
        known = {"stop_margin": None, "max_restarts": 0, **settings}
        job = build_transformation(
            prior, self.victim, self.images, self.labels, "runner_up", **known
        )
        return run_in_memory(job, progress=False)

    def gap(self, prior: Prior, **settings: Any) -> Result:
        job = build_purification(prior, self.images, self.victim, self.labels, **settings)
        return run_in_memory(job, progress=False)


def main() -> None:
    parser = options_of_settings(__doc__, "parametrisations")
    parser.set_defaults(model="fashion-small", classifier=["fashion-cnn"], eps=0.1, images=40)
    parser.add_argument("--data", default="fashion-mnist:sample")
    parser.add_argument("--few", type=int, default=8, help="images whose convergence is measured")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--fine", type=int, default=128, help="steps of the reference, by Heun")
    args = parser.parse_args()
    prior, (images, labels) = scoreag.load_prior(args.model), given_images(args)
    victim = scoreag.load_classifier(args.classifier[0])
    adversarial = attacked(victim, images, labels, pgd.PGD(eps=args.eps))
    figures: Row = {
        "model": Path(args.model).name,
        "victim": Path(args.classifier[0]).name,
        "data": args.data,
        "images": len(images),
        "few": args.few,
        "fine": args.fine,
        "same": same(prior, images[: args.few]),
    }
    few = Given(victim, images[: args.few], labels[: args.few])
    hostile = Given(victim, adversarial[: args.few], labels[: args.few])
    for name, draw in (("GAT", few.gat), ("GAP", hostile.gap)):
        figures[name] = converging(prior, draw, args.steps, args.fine)
        write(args.name, figures)
    whole, bad = Given(victim, images, labels), Given(victim, adversarial, labels)
    figures["estimates"] = [estimated(prior, whole, bad, name) for name in X0_ESTIMATES]
    write(args.name, figures)


def same(prior: Prior, images: Tensor) -> list[Row]:
    """How far the re-expressed denoisers are from the one that they were made of, by level."""
    priors = {name: as_family(prior, name) for name in FAMILIES}
    noise = Noise(0, range(len(images))).normal_like(images)
    found = []
    for level in SIGMAS:
        sigma = torch.tensor(level)
        x = to_model_range(images) + sigma * noise
        between = {n: apart(prior.model, q.model, x, sigma) for n, q in priors.items()}
        found.append({"sigma": level, **between})
    return found


def converging(prior: Prior, draw: Draw, steps: list[int], fine: int) -> list[Row]:
    """Root mean squares to the reference, in 255ths, of each path with each solver."""
    best = draw(prior, **chain("edm", "edm", 2, fine)).images
    found = []
    for path, levels in CHAINS:
        expressed = as_family(prior, path)
        for order, solver in SOLVERS.items():
            outs = [draw(expressed, **chain(path, levels, order, n)) for n in steps]
            errors = [255 * float((out.images - best).square().mean().sqrt()) for out in outs]
            row = {"family": path, "levels": levels, "solver": solver, "steps": steps}
            calls = [int(out.nfe.float().mean()) for out in outs]
            row |= {"calls": calls, "rms_255": errors, "order": order_of(steps, errors)}
            print(row, flush=True)
            found.append(row)
    return found


def chain(path: str, levels: str, order: int, steps: int) -> Row:
    options = {"path": path, "order": order, "levels": levels}
    return {"sampler": "paths.own", "sampler_options": options, "steps": steps}


def order_of(steps: list[int], errors: list[float]) -> float:
    """By how many powers of two the error falls at the last doubling of steps."""
    (a, b), (coarse, fine) = list(pairwise(steps))[-1], list(pairwise(errors))[-1]
    return math.log(coarse / fine) / math.log(b / a)


def estimated(prior: Prior, clean: Given, hostile: Given, estimate: str) -> Row:
    """Success and accuracy with an x0-estimate, and how far it is from the image that comes out."""
    seen: list[tuple[float, Tensor, Tensor]] = []
    watched = replace(prior, model=watching(prior.model, seen))
    gat, gat_far = followed(clean.gat, watched, seen, estimate)
    gap, gap_far = followed(hostile.gap, watched, seen, estimate)
    kept = clean.gap(prior, x0_estimate=estimate)
    again = clean.gat(prior, x0_estimate=estimate, max_restarts=None)  # as the card says
    right = gat.clean_predictions == gat.labels
    row = {
        "settings": {"estimate": estimate},
        "gat": rate(again.success[right], BEFORE),
        "gat_without_retries": rate(gat.success[right], BEFORE),
        "gap_attacked": rate(gap.predictions == gap.labels, "all images"),
        "gap_clean": rate(kept.predictions == kept.labels, "all images"),
        "gat_far": gat_far,
        "gap_far": gap_far,
    }
    print(short(row), flush=True)
    return row


def followed(
    draw: Draw, prior: Prior, seen: list[tuple[float, Tensor, Tensor]], estimate: str
) -> tuple[Result, list[Row]]:
    """A result, and at each level of its chain the distance of the estimate from the outcome."""
    seen.clear()
    out = draw(prior, x0_estimate=estimate)
    final = to_model_range(out.images)
    batches: dict[float, list[Tensor]] = {}
    for sigma, x, denoised in seen:
        a, b = X0_ESTIMATES[estimate](torch.tensor(sigma))
        batches.setdefault(sigma, []).append(a * x + b * denoised)
    far = []
    for sigma, parts in batches.items():
        estimates = torch.cat(parts)[: len(final)]  # the last micro-batch is padded
        far.append({"sigma": sigma, "rms": float((estimates - final).square().mean().sqrt())})
    return out, far


def watching(model: Any, seen: list[tuple[float, Tensor, Tensor]]) -> Any:
    """``model``, whose states and answers are kept."""

    def watched(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        denoised = model(x, sigma, labels)
        seen.append((float(sigma), x.detach(), denoised.detach()))
        return denoised

    return watched


if __name__ == "__main__":
    main()
