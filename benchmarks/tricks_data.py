"""Images that the victims of hardened.toml learn from: GAT's and GAS's of training images.

extra.npz: these with the classes that they show, for a classifier that is trained on them.
detect.npz: these as "generated" beside as many "real" training images, for a detector.
Both runs go on where they were stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scoreag.cli.app import main as scoreag
from scoreag.data.loading import Dataset, load_dataset


def made(folder: Path, task: str, *words: str) -> Dataset:
    """The images of a run against the bundled ResNet-20, with the classes that they show."""
    given = ["--model", "cifar10", "--classifier", "cifar10-resnet20", "--seed", "1"]
    if code := scoreag([task, *given, *words, "--out", str(folder / task)]):
        raise SystemExit(code)
    return load_dataset(str(folder / task))


def save(file: Path, images: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> None:
    arrays = {"images": images.numpy(), "labels": labels.numpy(), "classes": np.array(classes)}
    np.savez(file, **arrays)
    print(f"{file}: {len(images)} images")


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/tricks-data"))
    parser.add_argument("--data", default="cifar10:train")
    parser.add_argument("--images", type=int, default=1500, help="transformed by GAT")
    parser.add_argument("--per-class", type=int, default=75, help="synthesised by GAS")
    args = parser.parse_args(given)
    moved = made(args.out, "transform", "--data", f"{args.data}[0:{args.images}]")
    drawn = made(
        args.out, "synthesize", "--classes", "all", "--per-class", str(args.per_class),
        "--target", "random",
    )  # fmt: skip
    assert moved.labels is not None and drawn.labels is not None
    images = torch.cat([moved.images, drawn.images])
    save(args.out / "extra.npz", images, torch.cat([moved.labels, drawn.labels]), moved.classes)
    real = load_dataset(f"{args.data}[{args.images}:{args.images + len(images)}]").images
    kinds = torch.arange(2).repeat_interleave(len(images))
    save(args.out / "detect.npz", torch.cat([real, images]), kinds, ("real", "generated"))


if __name__ == "__main__":
    main()
