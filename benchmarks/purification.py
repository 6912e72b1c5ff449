"""GAP against PGD-40 at 8/255 that does not see the purifier, over s_x and start.

For each setting: accuracy on purified attacked and on purified clean images.  The attacked images
are computed once for all settings.
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
)

import scoreag
from scoreag.attacks import pgd
from scoreag.methods.purification import build_purification
from scoreag.methods.run_task import run_in_memory


def row(
    prior: Any, victim: Any, images: Any, adversarial: Any, labels: Any, **settings: Any
) -> Row:
    found: Row = {}
    for name, given in (("attacked", adversarial), ("clean", images)):
        out = run_in_memory(
            build_purification(prior, given, victim, labels, **settings), progress=False
        )
        found[f"{name}_purified"] = rate(out.predictions == labels, "all images")
        found[f"{name}_l2"] = (eight_bit(out.images) - images).flatten(1).norm(dim=1).mean().item()
    return {**by_draw(settings, out), **found}


@torch.no_grad()
def unpurified(victim: Any, images: Any, adversarial: Any, labels: Any, attack: pgd.PGD) -> Row:
    return {
        **by_pgd(", no purifier", attack),
        "clean": rate(victim(images).argmax(1) == labels, "all images"),
        "attacked": rate(victim(adversarial).argmax(1) == labels, "all images"),
    }


def main() -> None:
    parser = options_of_settings(__doc__, "purification")
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--similarity", type=float, nargs="*", default=[])
    parser.add_argument("--sigma-start", type=float, nargs="*", default=[])
    args = parser.parse_args()
    prior = scoreag.load_prior(args.model)
    images, labels = given_images(args, classes=prior.classes)
    attack = pgd.PGD(eps=args.eps)
    grid = cells(args, sigma_start=args.sigma_start, similarity=args.similarity)

    def rows(victim: Any) -> Iterator[Row]:
        adversarial = attacked(victim, images, labels, attack)
        yield unpurified(victim, images, adversarial, labels, attack)
        for settings in grid:
            yield row(prior, victim, images, adversarial, labels, **settings)

    measure(args, {"data": args.data, "images": args.images}, rows)


if __name__ == "__main__":
    main()
