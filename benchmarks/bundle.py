"""Put trained models into the package: their cards, with all figures, and their weights.

python benchmarks/bundle.py runs/fashion/fashion-small runs/mine=cifar10
"""

import argparse
from dataclasses import replace
from pathlib import Path

from scoreag.models.model_cards import ZOO, Card, load_card, read_stored_weights, write_card

MOST = 15_900_000  # bytes of numbers in a file of the package, which shall be below 16 MB


def bundle(folder: str, name: str) -> Card:
    """The card and the weights of ``folder``, in the zoo under ``name``, as they are stored."""
    given = load_card(Path(folder))
    made = replace(given, name=name, file=f"{name}.safetensors", folder=ZOO)
    made = write_card(made, read_stored_weights(given), max_shard_size=MOST)
    for old in (made.file, *(file.name for file in ZOO.glob(f"{name}-*-of-*.safetensors"))):
        if old not in (made.weight_files or {made.file}):
            (ZOO / old).unlink(missing_ok=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="FOLDER, or FOLDER=NAME")
    for word in parser.parse_args().folders:
        folder, _, name = word.partition("=")
        made = bundle(folder, name or Path(folder).name)
        sizes = [(ZOO / file).stat().st_size / 1e6 for file in made.weight_files or [made.file]]
        print(f"{made.name}: {' + '.join(f'{size:.2f}' for size in sizes)} MB")


if __name__ == "__main__":
    main()
