"""GAT beside PGD: success, what the judge still sees, and how far the images moved.

One row a setting; the first is the default.
"""

from collections.abc import Iterator
from typing import Any

import torch
from common import (
    Row,
    attacked,
    by_draw,
    by_pgd,
    cells,
    eight_bit,
    given_images,
    measure,
    options_of_settings,
    rate,
    ruler,
    without_retries,
)

import scoreag
from scoreag.attacks import pgd
from scoreag.methods.run_task import run_in_memory
from scoreag.methods.transformation import build_transformation

BEFORE = "images that were right before"


def row(prior: Any, victim: Any, data: Any, judge: Any, **settings: Any) -> Row:
    """One setting on one victim; success counts retries, and stands beside that without them."""
    images, labels = data
    out = run_in_memory(
        build_transformation(prior, victim, images, labels, "runner_up", **settings), progress=False
    )
    right = out.clean_predictions == labels
    return {
        **by_draw(settings, out),
        "clean": rate(right, "all images"),
        "success_8bit": rate(out.success[right], BEFORE),
        **without_retries(out, right, BEFORE),
        "as_wanted": rate(out.targeted_success[right], BEFORE),
        **seen(judge, eight_bit(out.images), data, right, out.success),
    }


def pgd_row(victim: Any, data: Any, judge: Any, attack: pgd.PGD) -> Row:
    images, labels = data
    saved = attacked(victim, images, labels, attack)
    with torch.no_grad():
        right = victim(images).argmax(1) == labels
        fooled = victim(saved).argmax(1) != labels
    found = {**by_pgd(attack=attack), "success_8bit": rate(fooled[right], BEFORE)}
    return {**found, **seen(judge, saved, data, right, fooled)}


def seen(judge: Any, saved: Any, data: Any, right: Any, fooled: Any) -> Row:
    """What the judge says of images that were right before, and how far they moved."""
    images, labels = data
    shown = judge.message(saved) == labels
    return {
        "judge": rate(shown[right], BEFORE),
        "valid": rate((shown & fooled)[right], BEFORE),
        "judge_untouched": rate((judge.message(images) == labels)[right], BEFORE),
        **judge.distances(saved[right], images[right]),
    }


def main() -> None:
    parser = options_of_settings(__doc__, "transformation")
    parser.add_argument("--data", default="cifar10:test")
    alone = ("attack_scale", "similarity", "sigma_start")
    for name in alone:
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, nargs="*", default=[])
    args = parser.parse_args()
    prior = scoreag.load_prior(args.model)
    data = given_images(args, classes=prior.classes)
    judge, attack = ruler(args.lpips, args.judge, prior.classes), pgd.PGD(eps=args.eps)

    def rows(victim: Any) -> Iterator[Row]:
        yield pgd_row(victim, data, judge, attack)
        for settings in cells(args, alone):
            yield row(prior, victim, data, judge, **settings)

    measure(args, {"data": args.data, "images": args.images}, rows)


if __name__ == "__main__":
    main()
