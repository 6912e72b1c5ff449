"""The picture at the top of the README: images of each task, with what the classifier reads.

    python benchmarks/task_picture.py --out docs/images/tasks.png

The images are the first of seed 0, and none is left out. CIFAR-10's are generated; Fashion-MNIST's
are of the bundled sample.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from torch import Tensor

import scoreag
from scoreag.attacks import PGD

COUNT = 8  # images of a row
INK, RED, GREEN = "#1a1a1a", "#a3341c", "#1c6b4a"
STYLE = {"font.size": 8, "font.family": "sans-serif"}


def generated() -> list[dict[str, Any]]:
    """GAS: images of eight classes, each with what is asked for and what is read."""
    prior, classifier = scoreag.load_prior("cifar10"), scoreag.load_classifier("cifar10-resnet20")
    result = scoreag.synthesize(prior, classifier, list(range(COUNT)), progress=False)
    return _row(result.images, result.labels, result.predictions, prior.classes)


def transformed() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """GAT on an adversarially trained classifier: the given images, and what becomes of them."""
    prior, classifier = (
        scoreag.load_prior("fashion-small"),
        scoreag.load_classifier("fashion-robust"),
    )
    images, labels = (part[:COUNT] for part in scoreag.load_data("fashion-mnist:sample"))
    result = scoreag.transform(prior, classifier, images, labels, progress=False)
    before = _row(images, labels, classifier(images).argmax(1), prior.classes)
    return before, _row(result.images, labels, result.predictions, prior.classes)


def purified() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """PGD's images, made without the purifier, and the same after GAP."""
    prior, classifier = scoreag.load_prior("fashion-small"), scoreag.load_classifier("fashion-cnn")
    images, labels = (part[:COUNT] for part in scoreag.load_data("fashion-mnist:sample"))
    attacked = PGD(eps=25.5 / 255)(classifier, images, labels, seed=0)
    result = scoreag.purify(prior, attacked, classifier, labels, progress=False)
    before = _row(attacked, labels, classifier(attacked).argmax(1), prior.classes)
    return before, _row(result.images, labels, result.predictions, prior.classes)


def _row(images: Tensor, labels: Any, predictions: Any, classes: Any) -> list[dict[str, Any]]:
    return [
        {"image": one, "shown": classes[int(y)], "read": classes[int(said)],
         "right": int(y) == int(said)}
        for one, y, said in zip(images, labels, predictions, strict=True)
    ]  # fmt: skip


def draw(rows: list[tuple[str, list[dict[str, Any]]]]) -> Figure:
    """A line of images for each row, under its title."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.42 * len(rows)), dpi=110, layout="constrained")
        parts = figure.subfigures(len(rows), 1)
        for part, (title, cells) in zip(parts, rows, strict=True):
            part.suptitle(title, x=0.008, ha="left", fontsize=9, weight="bold", color=INK)
            for axes, cell in zip(part.subplots(1, COUNT), cells, strict=True):
                _show(axes, cell)
    return figure


def _show(axes: Any, cell: dict[str, Any]) -> None:
    pixels = cell["image"].permute(1, 2, 0).squeeze(2).numpy()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    color = GREEN if cell["right"] else RED
    axes.set_title(f"{cell['shown']}\n→ {cell['read']}", fontsize=7, color=color, pad=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    (given, changed), (attacked, cleaned) = transformed(), purified()
    figure = draw([
        ("GAS: images from noise, for cifar10-resnet20. Class asked for → class read", generated()),
        ("Real images, read by fashion-robust, which was trained adversarially", given),
        ("GAT: the same images, transformed", changed),
        ("PGD's images, made without the purifier, read by fashion-cnn", attacked),
        ("GAP: the same images, purified", cleaned),
    ])  # fmt: skip
    figure.savefig(args.out, facecolor="white")


if __name__ == "__main__":
    main()
