"""Bounds for whoever steers a generator, beside our attack, as the folders of certify tell them.

scoreag certify --generative --model fashion-small --classifier fashion-cnn --sampler ancestral \
    --per-class 200 --energy 0.25,0.5,1,2,3 --reference-classifier fashion-judge --out runs/steered
python benchmarks/steered.py runs/steered
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from common import Row, write
from promised import read_run

CONFIG = ("sampler", "steps", "guidance_scale", "alpha", "energy", "attack")


def steered(folder: Path) -> Row:
    """What one run found in all classes, and of which generator."""
    config, summary, generator = read_run(folder)
    return {
        **{name: config[name] for name in CONFIG if name in config},
        **generator,
        "events": {event: parts[""] for event, parts in summary["steered"].items()},
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="steered", help="of the file of results")
    args = parser.parse_args(words)
    rows = [steered(folder) for folder in args.folders]
    if len({str(row["energy"]) for row in rows}) > 1:
        parser.error("the folders are of other lengths R; write a file for each")
    write(args.name, {"rows": rows})


if __name__ == "__main__":
    main()
