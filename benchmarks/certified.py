"""The figures of `scoreag certify`, by noise, for docs/results.md, as the runs' folders tell them.

scoreag certify --model cifar10 --classifier cifar10-resnet20 --data 'cifar10:test[0:100]' \
    --sigma 0.25 --dtype bf16 --out runs/certify-0.25
python benchmarks/certified.py runs/certify-0.25
"""

import argparse
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from common import Row, write

CONFIG = {  # what the results call it: and the manifest
    "noise": "sigma", "select": "n0", "samples": "n", "alpha": "alpha", "precision": "dtype",
}  # fmt: skip


def read_folder(folder: Path) -> tuple[Row, Row]:
    """The manifest and the summary of a run."""
    manifest, summary = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "summary")
    )
    return manifest, summary


def model_names(manifest: Row) -> Row:
    """The name of each model of a run, by its role."""
    return {role: model["name"] for role, model in manifest["models"].items()}


def certified(folder: Path) -> Row:
    """What one run found, how it was made, and how many minutes lay between begin and end."""
    manifest, summary = read_folder(folder)
    began, ended = (datetime.fromisoformat(manifest[of]) for of in ("started", "finished"))
    return {
        **{name: manifest["config"][of] for name, of in CONFIG.items()},
        "compiled": manifest["config"].get("compile", False),
        "data": manifest["data"]["name"],
        "models": model_names(manifest),
        "minutes": max(1.0, (ended - began).total_seconds()) / 60,  # told in whole seconds
        **{name: summary[name] for name in ("images", "rates", "certified", "mean_radius")},
        **{name: summary[name] for name in ("largest_radius", "agreement") if name in summary},
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="certified", help="of the file of results")
    args = parser.parse_args(words)
    write(args.name, {"rows": [certified(folder) for folder in args.folders]})


if __name__ == "__main__":
    main()
