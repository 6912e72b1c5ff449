"""Images made against one classifier, shown to others: attacks compared at equal LPIPS.

Every attack runs at several strengths. Between them, its transfer at a given LPIPS is interpolated
linearly; the interval is that of a bootstrap over images.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from common import Row, attacked, eight_bit, given_images, machine, options, ruler, write
from torch import Tensor

import scoreag
from scoreag.attacks import DIFGSM, SINIFGSM
from scoreag.core.rng import Stream

SCALES = {"GAT": (1.0, 4.0, 16.0, 64.0), "GAT, 8 views": (1.0, 4.0, 16.0, 64.0)}
RADII = (2, 4, 6, 8)  # of the FGSM attacks, of 255
RESAMPLES = 2000
Data: TypeAlias = tuple[Tensor, Tensor]  # images and labels


def make_images(prior: Any, victim: Any, data: Data, args: Any) -> dict[str, list[Tensor]]:
    """The 8-bit images of each attack, from its weakest to its strongest variant."""
    images, labels = data
    made: dict[str, list[Tensor]] = {}
    for name, scales in SCALES.items():
        views = 8 if "views" in name else 0
        made[name] = [
            eight_bit(
                scoreag.transform(
                    prior, victim, images, labels, attack_scale=scale, augmentations=views,
                    sigma_start=args.sigma_start, similarity=args.similarity, progress=False,
                ).images
            )
            for scale in scales
        ]  # fmt: skip
    for name, kind in (("DI-FGSM", DIFGSM), ("SI-NI-FGSM", SINIFGSM)):
        made[name] = [attacked(victim, images, labels, kind(eps=eps / 255)) for eps in RADII]
    return made


def measure_transfer(
    made: Mapping[str, list[Tensor]], held: Mapping[str, Any], data: Data, judge: Any
) -> dict[str, list[Row]]:
    """Of each variant: LPIPS of each image, and which held classifiers each image fools."""
    images, labels = data
    right = torch.stack([victim(images).argmax(1) == labels for victim in held.values()])
    rows: dict[str, list[Row]] = {}
    for name, variants in made.items():
        for saved in variants:
            wrong = torch.stack([victim(saved).argmax(1) != labels for victim in held.values()])
            rows.setdefault(name, []).append({
                "lpips": judge.lpips(images, saved), "wrong": wrong & right, "right": right,
                "shown": judge.message(saved) == labels,
            })  # fmt: skip
    return rows


def mean_transfer(row: Row, chosen: Tensor) -> float:
    """The mean over held classifiers of the share that is fooled, of those right before."""
    wrong, right = row["wrong"][:, chosen].double(), row["right"][:, chosen].double()
    return (wrong.sum(1) / right.sum(1).clamp(min=1)).mean().item()


def at_lpips(rows: list[Row], level: float, chosen: Tensor) -> float:
    """Transfer at an LPIPS, by linear interpolation between variants; NaN beyond the strongest."""
    points = [(0.0, 0.0)]
    points += [(row["lpips"][chosen].mean().item(), mean_transfer(row, chosen)) for row in rows]
    for (x, y), (x_next, y_next) in pairwise(points):
        if x <= level <= x_next:
            return y + (y_next - y) * (level - x) / max(x_next - x, 1e-12)
    return float("nan")


def with_interval(rows: list[Row], level: float) -> Row:
    """The transfer at an LPIPS with its percentile interval over resampled images."""
    count = len(rows[0]["lpips"])
    everything = torch.arange(count)
    source = Stream("transfer", 0)
    draws = torch.tensor([
        at_lpips(rows, level, source.integers(count, (count,))) for _ in range(RESAMPLES)
    ])  # fmt: skip
    value, within = at_lpips(rows, level, everything), draws[draws.isfinite()]
    if value != value or len(within) < RESAMPLES * 0.9:  # the strongest variant is below the level
        return {"value": None, "low": None, "high": None}
    low, high = within.quantile(draws.new_tensor([0.025, 0.975])).tolist()
    return {"value": value, "low": low, "high": high}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--source", default="cifar10-resnet20")
    parser.add_argument("--held", nargs="+", required=True)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument("--sigma-start", type=float, default=0.2)
    parser.add_argument("--similarity", type=float, default=1000.0)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.0005, 0.001, 0.002, 0.004])
    args = parser.parse_args()
    data, judge = given_images(args), ruler(args.lpips)
    held = {name: scoreag.load_classifier(name) for name in args.held}
    made = make_images(
        scoreag.load_prior(args.model), scoreag.load_classifier(args.source), data, args
    )
    with torch.no_grad():
        rows = measure_transfer(made, held, data, judge)
    chosen = torch.arange(len(data[0]))
    write("transfer", {
        "source": args.source, "held": args.held, "data": args.data, "images": len(data[0]),
        "machine": machine(),
        "variants": {
            name: [
                {"lpips": row["lpips"].mean().item(), "transfer": mean_transfer(row, chosen),
                 "shown": row["shown"].double().mean().item()}
                for row in variants
            ]
            for name, variants in rows.items()
        },
        "at_equal_lpips": {
            f"{level:g}": {name: with_interval(variants, level) for name, variants in rows.items()}
            for level in args.levels
        },
    })  # fmt: skip


if __name__ == "__main__":
    main()
