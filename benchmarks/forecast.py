"""What a plan would take, for docs/results.md, as its dry run tells it.

scoreag assess purifier --dry-run --json --lpips features.npz,heads.npz > runs/forecast.json
python benchmarks/forecast.py runs/forecast.json --name purifier_forecast
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from common import write


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True, help="of the file of results")
    args = parser.parse_args(words)
    write(args.name, {"rows": json.loads(args.file.read_text())})


if __name__ == "__main__":
    main()
