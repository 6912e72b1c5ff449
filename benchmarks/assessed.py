"""An assessment's figures for docs/results.md, as its folder tells them.

scoreag assess paper --workers 2 --lpips-weights features.npz,heads.npz --out runs/paper
python benchmarks/assessed.py runs/paper --name paper_cifar10
"""

import argparse
import json
from datetime import datetime
from pathlib import Path

from common import Row, write

CELL = {  # what the results call it: and the summary
    "name": "name", "victim": "classifier", "purification": "purifier_name", "attack": "attack",
    "component": "component", "swept": "sweep", "gradient": "gradient_mode", "images": "images",
    "rows": "rows", "state": "state", "figures": "metrics", "transfer": "transfer", "cost": "cost",
}  # fmt: skip


def assessed(folder: Path) -> Row:
    """The cells' figures, what holds under all attacks, what was doubted, and how it was made."""
    summary = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    cells = [{name: cell[of] for name, of in CELL.items()} for cell in summary["cells"].values()]
    return {
        "task": manifest["task"],
        "whole": manifest["finished"] is not None,
        "minutes": minutes(manifest, cells),
        "cells": [cell for cell in cells if cell["attack"] != "clean"],
        "clean": summary["clean_accuracy"],
        "defences": [{**one, "victim": one["classifier"]} for one in summary["defenses"]],
        "shown_differences": summary.get("shown_differences", []),
        "doubts": [
            {"cell": found["cell"], "says": found["message"]}
            for found in summary["findings"]
            if found["is_error"]
        ],
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
