"""A picture of an evaluation's samples: a corner of each class's grid, in the order of the classes.

python benchmarks/sample_picture.py runs/guidance/12 docs/images/cifar10-guided.png
"""

import argparse
from pathlib import Path

from PIL import Image

CELL, GAP, SHOWN, COLUMNS = 32, 2, 5, 5  # pixels of an image and between two; images; classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluation", type=Path, help="folder of scoreag evaluate")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    files = sorted((args.evaluation / "samples").glob("class-*.png"))
    side = SHOWN * (CELL + GAP)
    rows = -(-len(files) // COLUMNS)
    size = (COLUMNS * (side + GAP) - GAP, rows * (side + GAP) - GAP)
    picture = Image.new("RGB", size, "white")
    for i, file in enumerate(files):
        place = (i % COLUMNS * (side + GAP), i // COLUMNS * (side + GAP))
        picture.paste(Image.open(file).convert("RGB").crop((0, 0, side, side)), place)
    picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
