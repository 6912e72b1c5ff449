"""Few-step chains of every purifier: clean accuracy, accuracy under blind PGD-40, calls, seconds.

The classifier alone stands first. Blind figures say nothing of an attacker who differentiates
through the purifier.
"""

import time
from typing import Any

import torch
from common import PGD, attacked, given_images, options, rate, write

import scoreag
from scoreag.registry import load_component

CHAINS: list[tuple[str, dict[str, Any]]] = [
    ("one_step_denoising", {"sigma_start": 0.2}),
    ("one_step_denoising", {"sigma_start": 0.3}),
    ("diffpure", {"sampler": "heun", "steps": 3}),
    ("diffpure", {"steps": 5}),
    ("diffpure", {}),
    ("diffpure", {"steps": 18}),
    ("diffpure", {"sigma_start": 0.34}),
    ("gap", {}),
    ("gap", {"sampler": "heun", "steps": 5}),
    ("gap", {"steps": 18}),
]


@torch.no_grad()
def accuracy(classifier: Any, images: Any, labels: Any) -> dict[str, Any]:
    said = torch.cat([classifier(part).argmax(1) for part in images.split(32)])
    return rate(said == labels, "all images")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", default="cifar10:test")
    args = parser.parse_args()
    prior, victim = scoreag.load_prior("cifar10"), scoreag.load_classifier("cifar10-resnet20")
    images, labels = given_images(args)
    adversarial = attacked(victim, images, labels)
    both = (("clean", images), ("attacked", adversarial))
    alone = {name: accuracy(victim, given, labels) for name, given in both}
    rows: list[dict[str, Any]] = [{"purifier": "none", "calls": 0, "seconds": 0.0, **alone}]
    for purifier, settings in CHAINS:
        defended = scoreag.defend(victim, prior, purifier, **settings)
        calls: list[int] = []
        count = prior.model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        began = time.perf_counter()
        found = {name: accuracy(defended, given, labels) for name, given in both}
        seconds = (time.perf_counter() - began) / (2 * len(images))
        count.remove()
        resolved = defended.config.sampling.subset(load_component("purifiers", purifier).TAKES)
        per_image = len(calls) // (2 * len(images.split(32)))
        rows.append({
            "purifier": purifier, "settings": settings, "calls": per_image, "seconds": seconds,
            **found, "resolved": {**resolved, "seed": 0},
        })  # fmt: skip
        print(rows[-1], flush=True)
        told = {"data": args.data, "images": args.images, "epsilon": PGD.eps}
        write("purifiers", {**told, "victim": "cifar10-resnet20", "rows": rows})


if __name__ == "__main__":
    main()
