"""Put trained models into the package: their cards, with all figures, and their weights.

python benchmarks/bundle.py runs/fashion/fashion-small runs/mine=cifar10
"""

import argparse
from dataclasses import replace
from pathlib import Path

from scoreag.cards import ZOO, Card, card, rewrite, weights
from scoreag.files import replace_file


def bundle(folder: str, name: str) -> Card:
    """The card and the weights of ``folder``, in the zoo under ``name``; what was there goes."""
    given = card(Path(folder))
    weights(given)  # refuses a file that is not the card's
    data = (given.folder / given.file).read_bytes()
    made = replace(given, name=name, file=f"{name}.safetensors", folder=ZOO)
    replace_file(ZOO / made.file, lambda aside: aside.write_bytes(data))
    return rewrite(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", help="FOLDER, or FOLDER=NAME")
    for word in parser.parse_args().folders:
        folder, _, name = word.partition("=")
        made = bundle(folder, name or Path(folder).name)
        print(f"{made.name}: {(made.folder / made.file).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
