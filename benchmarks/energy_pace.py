"""Where an attack spends its energy: paces beside each other, as the folders of certify tell.

for pace in greedy uniform proportional; do
    scoreag certify --generative --model cifar10 --classifier cifar10-resnet20 --sampler ancestral \
        --per-class 20 --attack-per-class 20 --energy 2,4 --energy-pace $pace --seed 1 \
        --out runs/pace-$pace
done
python benchmarks/energy_pace.py runs/pace-*
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from common import Row, write
from promised import read_run


def paced(folder: Path) -> Row:
    """What our attack reached in one run, at each R."""
    config, summary, generator = read_run(folder)
    parts = summary["steered"]["misread"][""]
    return {
        **{name: config[name] for name in ("sampler", "steps", "attack")},
        **generator,
        "unsteered": parts["unsteered"],
        "reached": {length: entry["attack"] for length, entry in parts["budgets"].items()},
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="energy_pace", help="of the file of results")
    args = parser.parse_args(words)
    write(args.name, {"rows": [paced(folder) for folder in args.folders]})


if __name__ == "__main__":
    main()
