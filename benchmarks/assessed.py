"""An assessment's figures for docs/results.md, as its folder tells them.

scoreag assess paper --workers 2 --lpips features.npz,heads.npz --out runs/paper
python benchmarks/assessed.py runs/paper --name paper_cifar10
"""

import argparse
import json
from datetime import datetime
from pathlib import Path

from common import Row, write

KEPT = ("name", "victim", "purification", "attack", "component", "swept", "gradient",
        "images", "rows", "state", "figures", "transfer", "cost")  # fmt: skip


def assessed(folder: Path) -> Row:
    """The cells' figures, what holds under all attacks, what was doubted, and how it was made."""
    summary = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    cells = [{name: cell[name] for name in KEPT} for cell in summary["cells"].values()]
    return {
        "task": manifest["task"],
        "whole": manifest["finished"] is not None,
        "minutes": minutes(manifest, cells),
        "cells": [cell for cell in cells if cell["attack"] != "clean"],
        "clean": summary["clean_accuracy"],
        "defences": summary["defences"],
        "doubts": [found for found in summary["findings"] if found["grave"]],
    }


def minutes(manifest: Row, cells: list[Row]) -> float:
    """From begin to end; where not all cells are done, those of one core that the attacks took."""
    if manifest["finished"] is None:
        return sum(cell["rows"] * cell["cost"].get("seconds", 0.0) for cell in cells) / 60
    began, ended = (datetime.fromisoformat(manifest[of]) for of in ("started", "finished"))
    return (ended - began).total_seconds() / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="of the file of results")
    args = parser.parse_args()
    write(args.name, assessed(args.folder))


if __name__ == "__main__":
    main()
