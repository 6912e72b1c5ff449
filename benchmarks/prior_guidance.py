"""Samples by guidance of the prior: what evaluations at several scales and intervals found.

scoreag evaluate cifar10 --images 2000 --nfe 18 --guidance-scale 5 --out runs/guidance/5
python benchmarks/prior_guidance.py runs/guidance/*
"""

import argparse
import json
from pathlib import Path

from common import Row, write
from render_world import FIGURES


def row(folder: Path) -> Row:
    """The guidance of an evaluation, and what it measured."""
    found = json.loads((folder / "figures.json").read_text())
    config = found["config"]
    return {
        "guidance": config.get("guidance", {}),
        "sampler": config["sampler"],
        "calls": config["nfe"],
        "metrics": {name: found["metrics"][name] for name in FIGURES},
        "neighbors": found["neighbors"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluations", type=Path, nargs="+", help="folders of scoreag evaluate")
    parser.add_argument("--name", default="prior_guidance")
    args = parser.parse_args()
    rows = [row(folder) for folder in args.evaluations]

    def order(one: Row) -> tuple[float, bool]:
        guidance = one["guidance"]
        return guidance.get("guidance_scale", 1.0), bool(guidance.get("guidance_interval"))

    write(args.name, {"rows": sorted(rows, key=order)})


if __name__ == "__main__":
    main()
