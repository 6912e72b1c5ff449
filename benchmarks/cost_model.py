"""Images a dollar on common GPUs, from the operations of a call: a model, not a measurement.

    seconds an image = GFLOP of a call * (calls + 2 * calls with a gradient) / (peak * utilization)

A gradient costs twice the call itself.  Peaks are those of the data sheets in TF32, as torch uses
them for convolutions in float32, without sparsity; T4 has none, so that its peak is of float32.
Prices are list price assumptions: give your own by --gpu.  Utilization is an assumption, too.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

from common import RESULTS, write

SOURCE = "list price assumption, on demand, one GPU"
DATE = "2026-11"
HEUN_CALLS = 35  # 2 * 18 - 1, the steps of Karras et al. for CIFAR-10
TASKS = {  # calls of an image, and how many of them have a gradient
    "a sample, unguided": (HEUN_CALLS, 0),
    "GAS or GAT, a gradient in each call": (HEUN_CALLS, HEUN_CALLS),
}
MODELS = ("edm-cifar10-cond-vp", "edm-imagenet64-cond-adm", "guided-imagenet256-cond")


@dataclass(frozen=True)
class Gpu:
    """A GPU as it is assumed.

    Args:
        tflops: peak of the data sheet, in 10^12 operations a second.
        dollars: of an hour.
    """

    name: str
    tflops: float
    dollars: float


GPUS = (
    Gpu("T4", 8.1, 0.35),
    Gpu("L4", 60.0, 0.7),
    Gpu("A100 80 GB", 156.0, 3.7),
    Gpu("H100 SXM", 494.0, 7.0),
)


def images_a_dollar(
    gpu: Gpu, gflops: float, calls: int, with_gradient: int, utilization: float
) -> float:
    """How many images an hour's price buys."""
    operations = 1e9 * gflops * (calls + 2 * with_gradient)
    seconds = operations / (1e12 * gpu.tflops * utilization)
    return 3600 / seconds / gpu.dollars


def parse_gpu(text: str) -> Gpu:
    """``NAME=TFLOPS,DOLLARS``."""
    name, _, numbers = text.rpartition("=")
    tflops, dollars = map(float, numbers.split(","))
    return Gpu(name, tflops, dollars)


def rows(gpus: tuple[Gpu, ...], utilization: float) -> list[dict[str, Any]]:
    """A line for each model and task."""
    costs = json.loads((RESULTS / "public_cost.json").read_text())["rows"]
    return [
        {
            "model": model, "pixels": costs[model]["side"], "task": task, "calls": calls,
            "with_gradient": gradients,
            "tflop": round(costs[model]["gflops"] * (calls + 2 * gradients) / 1000, 3),
            "images_a_dollar": {
                gpu.name: round(
                    images_a_dollar(gpu, costs[model]["gflops"], calls, gradients, utilization), 1
                )
                for gpu in gpus
            },
        }
        for model in MODELS
        for task, (calls, gradients) in TASKS.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--gpu", action="append", type=parse_gpu, help="NAME=TFLOPS,DOLLARS: printed, not recorded"
    )
    parser.add_argument("--utilization", type=float, default=0.3)
    parser.add_argument("--source", default=SOURCE)
    parser.add_argument("--date", default=DATE)
    args = parser.parse_args()
    if args.gpu:  # of a reader's own; the recorded table stays
        for row in rows(tuple(args.gpu), args.utilization):
            print(row["model"], row["task"], row["images_a_dollar"])
        return
    gpus = GPUS
    write("cost_model", {
        "source": args.source, "date": args.date, "utilization": args.utilization,
        "gpus": [asdict(gpu) for gpu in gpus], "rows": rows(gpus, args.utilization),
    })  # fmt: skip


if __name__ == "__main__":
    main()
