"""GAS beside draws without attack from the same seeds: success, and what the judge still sees.

The agreement on draws without attack is the score model's own ceiling.
"""

from collections.abc import Iterator
from typing import Any

import torch
from common import (
    Row,
    by_draw,
    cells,
    eight_bit,
    measure,
    options_of_settings,
    rate,
    ruler,
    without_retries,
)

import scoreag
from scoreag.methods.run_task import run_in_memory
from scoreag.methods.synthesis import build_synthesis


def row(prior: Any, victim: Any, labels: Any, judge: Any, **settings: Any) -> Row:
    """One setting; at attack scale 0 success is the victim's own error."""
    out = run_in_memory(
        build_synthesis(prior, victim, labels, "runner_up", **settings), progress=False
    )
    shown = judge.message(eight_bit(out.images)) == out.labels
    return {
        **by_draw(settings, out),
        "success_8bit": rate(out.success, "all images"),
        "valid": rate(out.success & shown, "all images"),
        **without_retries(out, torch.ones_like(out.success), "all images"),
        "as_wanted": rate(out.targeted_success, "all images"),
        "judge": rate(shown, "all images"),
    }


def main() -> None:
    parser = options_of_settings(__doc__, "synthesis")
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attack-scale", type=float, nargs="*", default=[])
    args = parser.parse_args()
    prior = scoreag.load_prior(args.model)
    judge = ruler(judge=args.judge, classes=prior.classes)
    labels = torch.arange(len(prior.classes)).repeat_interleave(args.per_class)
    default, *others = cells(args, alone=("attack_scale",))

    def rows(victim: Any) -> Iterator[Row]:
        for settings in ({**default, "attack_scale": 0.0}, default, *others):
            yield row(prior, victim, labels, judge, **{"seed": args.seed, **settings})

    measure(args, {"per_class": args.per_class, "seed": args.seed}, rows)


if __name__ == "__main__":
    main()
