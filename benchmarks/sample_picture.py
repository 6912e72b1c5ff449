"""A picture of an evaluation's samples: a corner of each class's grid, in the order of the classes.

python benchmarks/sample_picture.py runs/guidance/12 docs/images/cifar10-guided.png
python benchmarks/sample_picture.py runs/cifar100 docs/images/cifar100-guided.png --down 1 \
    --columns 10 --across 3
"""

import argparse
from pathlib import Path

from PIL import Image

GAP = 2  # pixels between two images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluation", type=Path, help="folder of scoreag evaluate")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=32, help="pixels of an image")
    parser.add_argument("--across", type=int, default=5, help="images of a class in a row")
    parser.add_argument("--down", type=int, default=5, help="rows of a class")
    parser.add_argument("--columns", type=int, default=5, help="classes beside each other")
    args = parser.parse_args()
    files = sorted((args.evaluation / "samples").glob("class-*.png"))
    width, height = (count * (args.size + GAP) for count in (args.across, args.down))
    rows = -(-len(files) // args.columns)
    size = (args.columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    picture = Image.new("RGB", size, "white")
    for i, file in enumerate(files):
        place = (i % args.columns * (width + GAP), i // args.columns * (height + GAP))
        picture.paste(Image.open(file).convert("RGB").crop((0, 0, width, height)), place)
    picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
