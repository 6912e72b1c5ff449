"""GAT beside PGD: success, what the judge still sees, and how far the images moved.

One row a setting; the first is the default. With --curves, every setting around it.
"""

import argparse
from typing import Any

import torch
from common import attacked, eight_bit, options, rate, ruler, write

import scoreag
from scoreag.api import run, transformation


def row(prior: Any, victim: Any, data: Any, measure: Any, **settings: Any) -> dict[str, Any]:
    """One setting on one victim. Without retries the first draw is judged as well."""
    images, labels = data
    job = transformation(prior, victim, images, labels, "second", **settings)
    out = run(job, progress=False)
    right = out.before == labels
    saved = eight_bit(out.images)
    sees, saw = measure.says(saved), measure.says(images)
    first = out.retries == 0
    before = "images that were right before"
    return {
        "settings": {k: v for k, v in settings.items()},
        "clean": rate(right, "all images"),
        "success_8bit": rate(out.success_8bit[right], before),
        "without_retries": rate((out.success_8bit & first)[right], before),
        "as_wanted": rate(out.as_wanted[right], before),
        "judge": rate((sees == labels)[right], before),
        "judge_untouched": rate((saw == labels)[right], before),
        **measure.distances(saved[right], images[right]),
        "calls": out.calls.float().mean().item(),
        "resolved": out.settings,
    }


def pgd_row(victim: Any, data: Any, measure: Any) -> dict[str, Any]:
    images, labels = data
    with torch.no_grad():
        right = victim(images).argmax(1) == labels
    saved = attacked(victim, images, labels, list(range(len(images))))
    with torch.no_grad():
        fooled = victim(saved).argmax(1) != labels
    before = "images that were right before"
    return {
        "settings": "PGD-40, 8/255",
        "success_8bit": rate(fooled[right], before),
        "judge": rate((measure.says(saved) == labels)[right], before),
        "judge_untouched": rate((measure.says(images) == labels)[right], before),
        **measure.distances(saved[right], images[right]),
    }


def main() -> None:
    parser = options(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--classifier", nargs="+", default=["cifar10-resnet20"])
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--strength", type=float, nargs="*", default=[])
    parser.add_argument("--precision", type=float, nargs="*", default=[])
    parser.add_argument("--start", type=float, nargs="*", default=[])
    parser.add_argument("--setting", nargs="*", default=[], help="name=value for all rows")
    parser.add_argument("--name", default="transformation")
    args = parser.parse_args()
    fixed = dict(pair.split("=", 1) for pair in args.setting)
    typed = {k: (int(v) if v.isdigit() else _number(v)) for k, v in fixed.items()}
    prior, measure = scoreag.load_prior(args.model), ruler(args.lpips)
    data = scoreag.data(args.data, root=args.root)
    data = (data[0][: args.images], data[1][: args.images])
    grid = [dict(typed)]
    for name in ("strength", "precision", "start"):
        grid += [{**typed, name: value} for value in getattr(args, name)]
    figures: dict[str, Any] = {"data": args.data, "images": args.images, "victims": {}}
    for name in args.classifier:
        victim = scoreag.load_classifier(name)
        rows = [pgd_row(victim, data, measure)]
        print(name, _short(rows[0]), flush=True)
        for settings in grid:
            rows.append(row(prior, victim, data, measure, **settings))
            print(name, _short(rows[-1]), flush=True)
            figures["victims"][name] = rows
            write(args.name, figures)


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def _short(row: dict[str, Any]) -> str:
    shares = {
        k: f"{row[k]['value']:.3f}" for k in row if isinstance(row[k], dict) and "value" in row[k]
    }
    plain = {k: f"{v:.3f}" for k, v in row.items() if isinstance(v, float)}
    return f"{row['settings']} {shares} {plain}"


if __name__ == "__main__":
    main()
