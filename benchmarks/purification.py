"""GAP against PGD-40 at 8/255 that does not see the purifier, over s_x and start.

For each setting: accuracy on purified attacked and on purified clean images.
"""

import argparse
from typing import Any

import torch
from common import attacked, eight_bit, options, rate, write
from transformation import _number, _short

import scoreag
from scoreag.api import purification, run


def row(
    prior: Any, victim: Any, images: Any, adversarial: Any, labels: Any, **settings: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"settings": settings}
    for name, given in (("attacked", adversarial), ("clean", images)):
        out = run(purification(prior, given, victim, labels, **settings), progress=False)
        found[f"{name}_purified"] = rate(out.predictions == labels, "all images")
        found[f"{name}_l2"] = (eight_bit(out.images) - images).flatten(1).norm(dim=1).mean().item()
    found["calls"], found["resolved"] = out.calls.float().mean().item(), out.settings
    return found


def main() -> None:
    parser = options(argparse.ArgumentParser(description=__doc__))
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--classifier", nargs="+", default=["cifar10-resnet20"])
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--precision", type=float, nargs="*", default=[])
    parser.add_argument("--start", type=float, nargs="*", default=[])
    parser.add_argument("--setting", nargs="*", default=[], help="name=value for all rows")
    parser.add_argument("--name", default="purification")
    args = parser.parse_args()
    fixed = dict(pair.split("=", 1) for pair in args.setting)
    typed = {k: (int(v) if v.isdigit() else _number(v)) for k, v in fixed.items()}
    prior = scoreag.load_prior(args.model)
    images, labels = scoreag.data(args.data, root=args.root)
    images, labels = images[: args.images], labels[: args.images]
    grid = [dict(typed)]
    grid += [
        {**typed, "start": start, "precision": precision}
        for start in args.start
        for precision in args.precision
    ]
    figures: dict[str, Any] = {"data": args.data, "images": args.images, "victims": {}}
    for name in args.classifier:
        victim = scoreag.load_classifier(name)
        adversarial = attacked(victim, images, labels, list(range(len(images))))
        with torch.no_grad():
            base = {
                "settings": "PGD-40, 8/255, no purifier",
                "clean": rate(victim(images).argmax(1) == labels, "all images"),
                "attacked": rate(victim(adversarial).argmax(1) == labels, "all images"),
            }
        rows = [base]
        print(name, _short(base), flush=True)
        for settings in grid:
            rows.append(row(prior, victim, images, adversarial, labels, **settings))
            print(name, _short(rows[-1]), flush=True)
            figures["victims"][name] = rows
            write(args.name, figures)


if __name__ == "__main__":
    main()
