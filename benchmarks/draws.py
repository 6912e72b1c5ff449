"""By which sampler does a score model draw best?  Unguided draws with as many denoiser calls each.

Told are the judge's agreement with the class asked for, and the Fréchet distance to test images.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from common import Row, eight_bit, given_images, options, rate, ruler, short, write

import scoreag
from scoreag.evaluation.sampling import cycle_labels, generate_samples
from scoreag.io.images import to_float
from scoreag.metrics.feature_distances import frechet_distance


def row(prior: Any, judge: Any, real: Any, sampler: str, calls: int, images: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        pixels = generate_samples(
            prior, Path(folder), "draws", images, sampler, calls, seed=3, batch_size=50,
            progress=False,
        )  # fmt: skip
    drawn = to_float(pixels)
    return {
        "settings": {"sampler": sampler, "calls": calls},
        "judge": rate(
            judge.message(drawn) == cycle_labels(images, len(prior.classes)), "all draws"
        ),
        "frechet": frechet_distance(judge.moments(drawn), judge.moments(real)),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--model", default="cifar10")
    parser.add_argument("--judge", default="cifar10-judge")
    parser.add_argument("--data", default="cifar10:test")
    parser.add_argument(
        "--sampler", nargs="+", default=["heun", "dpmpp_2m", "edm_stochastic", "ancestral"]
    )
    parser.add_argument("--nfe", type=int, nargs="+", default=[35])
    parser.add_argument("--name", default="draws")
    args = parser.parse_args()
    prior, judge = scoreag.load_prior(args.model), ruler(judge=args.judge)
    images, labels = given_images(args)
    with torch.no_grad():
        own = rate(judge.message(eight_bit(images)) == labels, "all test images")
    figures: Row = {"model": Path(args.model).name, "images": args.images, "seed": 3, "judge": own}
    figures["rows"] = rows = list[Row]()
    for calls in args.nfe:
        for sampler in args.sampler:
            rows.append(row(prior, judge, images, sampler, calls, args.images))
            print(short(rows[-1]), flush=True)
            write(args.name, figures)


if __name__ == "__main__":
    main()
