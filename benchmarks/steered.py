"""Bounds for whoever steers a generator, beside our attack, as the folders of certify tell them.

scoreag certify --generative --model fashion-small --classifier fashion-cnn --sampler ancestral \
    --per-class 200 --energy 0.25,0.5,1,2,3 --reference-classifier fashion-judge --out runs/steered
python benchmarks/steered.py runs/steered
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from common import Row, write

CONFIG = ("sampler", "steps", "guidance_scale", "alpha", "energy", "attack")


def steered(folder: Path) -> Row:
    """What one run found in all classes, and of which generator."""
    summary = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    config = manifest["config"]
    return {
        **{name: config[name] for name in CONFIG if name in config},
        "purifier": config.get("purifier", {}).get("name", "none"),
        "models": {role: model["name"] for role, model in manifest["models"].items()},
        "per_class": summary["images"] // len(summary["classes"]),
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
