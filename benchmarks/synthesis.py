"""GAS beside unguided draws from the same seeds: success, and what the judge still sees.

The unguided draws' agreement is the score model's own ceiling.
"""

import argparse
from typing import Any

import torch
from common import eight_bit, options, rate, ruler, write
from transformation import _number, _short

import scoreag
from scoreag.api import run, synthesis


def row(prior: Any, victim: Any, labels: Any, measure: Any, **settings: Any) -> dict[str, Any]:
    """One setting; at strength 0 nothing guides, and success is the victim's own error."""
    out = run(synthesis(prior, victim, labels, "second", **settings), progress=False)
    saved = eight_bit(out.images)
    return {
        "settings": settings,
        "success_8bit": rate(out.success_8bit, "all images"),
        "without_retries": rate(out.success_8bit & (out.retries == 0), "all images"),
        "as_wanted": rate(out.as_wanted, "all images"),
        "judge": rate(measure.says(saved) == out.labels, "all images"),
        "calls": out.calls.float().mean().item(),
        "resolved": out.settings,
    }


def main() -> None:
    parser = options(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--classifier", nargs="+", default=["cifar10-resnet20"])
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, nargs="*", default=[])
    parser.add_argument("--setting", nargs="*", default=[], help="name=value for all rows")
    parser.add_argument("--name", default="synthesis")
    args = parser.parse_args()
    fixed = dict(pair.split("=", 1) for pair in args.setting)
    typed = {k: (int(v) if v.isdigit() else _number(v)) for k, v in fixed.items()}
    prior, measure = scoreag.load_prior(args.model), ruler(None)
    labels = torch.arange(len(prior.classes)).repeat_interleave(args.per_class)
    grid = [{**typed, "strength": 0.0}, dict(typed)]
    grid += [{**typed, "strength": value} for value in args.strength]
    figures: dict[str, Any] = {"per_class": args.per_class, "seed": args.seed, "victims": {}}
    for name in args.classifier:
        victim = scoreag.load_classifier(name)
        rows = []
        for settings in grid:
            rows.append(row(prior, victim, labels, measure, seed=args.seed, **settings))
            print(name, _short(rows[-1]), flush=True)
            figures["victims"][name] = rows
            write(args.name, figures)


if __name__ == "__main__":
    main()
