"""The figures of `scoreag certify --generative`, a generator a line, as its folders tell them.

scoreag certify --generative --model fashion-small --classifier fashion-cnn --per-class 200 \
    --out runs/drawn
scoreag certify --generative --model fashion-small --classifier fashion-cnn --per-class 200 \
    --attack-scale 2 --purifier gap --out runs/guided-purified
python benchmarks/promised.py runs/drawn runs/guided-purified
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from certified import model_names, read_folder
from common import Row, write

CONFIG = {  # what the results call it: and the manifest
    "strength": "attack_scale", "sampler": "sampler", "steps": "steps", "alpha": "alpha",
}  # fmt: skip


def read_run(folder: Path) -> tuple[Row, Row, Row]:
    """The config and the summary of a run, and which generator it is of."""
    manifest, summary = read_folder(folder)
    config = manifest["config"]
    generator = {
        "purifier": config.get("purifier", {}).get("name", "none"),
        "models": model_names(manifest),
        "per_class": summary["images"] // len(summary["classes"]),
    }
    return config, summary, generator


def promised(folder: Path) -> Row:
    """What one run found, and of which generator."""
    config, summary, generator = read_run(folder)
    return {
        **{name: config[of] for name, of in CONFIG.items()},
        **generator,
        **{name: summary[name] for name in ("misclassified", "upper_mean", "upper_largest")},
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--name", default="promised", help="of the file of results")
    args = parser.parse_args(words)
    rows = [promised(folder) for folder in args.folders]
    if len({repr([row[name] for name in ("models", "per_class", "alpha")]) for row in rows}) > 1:
        parser.error("the folders are of other models, counts or alphas; write a file for each")
    write(args.name, {"rows": rows})


if __name__ == "__main__":
    main()
