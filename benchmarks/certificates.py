"""One table a classifier: L2, transforms and the steered generator, as the folders of certify tell.

scoreag certify --model cifar10 --classifier cifar10-resnet20 --data 'cifar10:test[0:200]' \
    --sigma 0.25 --n 1000 --out runs/l2
scoreag certify --transform blur --classifier cifar10-resnet20 --data 'cifar10:test[0:200]' \
    --n 1000 --out runs/blur
scoreag certify --generative --model cifar10 --classifier cifar10-resnet20 --sampler ancestral \
    --per-class 200 --energy 0.5,1 --reference-classifier cifar10-judge --out runs/steered
python benchmarks/certificates.py runs/l2 runs/blur runs/steered
python benchmarks/certificates.py runs/robust-blur --keep    # the rest of the file stays
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from certified import certified, model_names, read_folder
from common import RESULTS, Row, write
from steered import steered

from scoreag.certify.run import GENERATOR_TASK, SMOOTHING_TASK, TRANSFORM_TASKS


def transformed(folder: Path) -> Row:
    """What one run over a transform found, and how it was made."""
    manifest, summary = read_folder(folder)
    config = {name: manifest["config"][name] for name in ("transform", "sigma", "n", "alpha")}
    found = {name: summary[name] for name in ("images", "rates", "certified")}
    data = {"data": manifest["data"]["name"], "models": model_names(manifest)}
    return {**config, **found, **data}


READERS = {  # where a run stands in the row of its classifier, and how it is read
    SMOOTHING_TASK: ("l2", certified),
    GENERATOR_TASK: ("steered", steered),
    **{task: (name, transformed) for name, task in TRANSFORM_TASKS.items()},
}


def collect(folders: Sequence[Path]) -> list[Row]:
    """A row a classifier: its certificates by kind.

    Raises:
        ValueError: two folders are of one kind and one classifier.
    """
    rows: dict[str, Row] = {}
    for folder in folders:
        kind, read = READERS[read_folder(folder)[0]["task"]]
        found = read(folder)
        row = rows.setdefault(found["models"]["classifier"], {})
        if kind in row:
            raise ValueError(f"{folder} is a second folder of {kind} of one classifier; give one")
        row[kind] = found
    return [{"classifier": name, **found} for name, found in rows.items()]


def merge(old: Row, rows: Sequence[Row]) -> Row:
    """The old file with each certificate of ``rows`` in its place, and the commands of the rest."""
    known: dict[str, Row] = {}
    for row in [*old["rows"], *rows]:
        known[row["classifier"]] = known.get(row["classifier"], {}) | row
    earlier = [*old.get("earlier", ()), old["about"]["command"]]
    return {"earlier": earlier, "rows": [*known.values()]}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="certificates", help="of the file of results")
    parser.add_argument("--keep", action="store_true", help="what the file has of other runs")
    args = parser.parse_args(words)
    rows = collect(args.folders)
    if args.keep:
        old = json.loads((RESULTS / f"{args.name}.json").read_text())
        write(args.name, merge(old, rows))
    else:
        write(args.name, {"rows": rows})


if __name__ == "__main__":
    main()
