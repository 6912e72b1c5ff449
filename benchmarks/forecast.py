"""What a plan would take, for docs/results.md, as its dry run tells it.

scoreag assess purifier --dry-run --json --lpips-weights features.npz,heads.npz > runs/forecast.json
python benchmarks/forecast.py runs/forecast.json --name purifier_forecast

Of several files, a later one's cells stand in for those of the same name: what was measured again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from common import write


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--name", required=True, help="of the file of results")
    args = parser.parse_args(words)
    rows = {row["cell"]: row for file in args.files for row in json.loads(file.read_text())}
    write(args.name, {"rows": [*rows.values()]})


if __name__ == "__main__":
    main()
