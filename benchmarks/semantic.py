"""How well does ``semantic`` predict what people see, and what helps?  And what of attacked images?

Cross-validated on CIFAR-10H.  There are no answers about changed or attacked images: of these only
the measure itself is told, beside the judge and LPIPS.
"""

import argparse
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from common import Row, options, short, write
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, pad

from scoreag.data.humans import load_human_answers, match_answers
from scoreag.data.loading import Dataset, load_dataset
from scoreag.io.images import read_png, to_float, to_uint8
from scoreag.metrics.people_calibration import (
    compare_with_people,
    cross_validate,
    set_figures,
    to_shares,
)
from scoreag.metrics.semantic import SemanticMeasure, load_semantic
from scoreag.models.model_cards import load_card
from scoreag.training.execution import resolve_dtype
from scoreag.training.semantic_training import build_ensemble, predict_log_shares


def views_of(name: str, images: Tensor, cache: Path, dtype: str) -> Tensor:
    """What a network says of the images, read again from ``cache`` where it was said before."""
    card = load_card(name)
    file = cache / f"{Path(name).name}-{card.sha256[:16]}.pt"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        ensemble = build_ensemble([card])
        torch.save(predict_log_shares(ensemble, images, "cpu", dtype=dtype)[:, 0], file)
    return torch.load(file, weights_only=True)


def against_people(label: str, views: Tensor, counts: Tensor, labels: Tensor) -> Iterator[Row]:
    """The cross-validated figures of a mixture: knowing the label, and not."""
    held = cross_validate(views, counts, labels)
    rows, share = range(len(labels)), to_shares(counts).gather(1, labels[:, None])[:, 0]
    sets = set_figures(held, counts, labels)
    yield {"settings": label, "figures": {**compare_with_people(held.of_label, share), **sets}}
    blind = held.predicted[rows, labels]
    yield {"settings": f"{label}, label not known", "figures": compare_with_people(blind, share)}


def raw_margin(label: str, view: Tensor, counts: Tensor, labels: Tensor) -> Row:
    """The difference of the label's log-probability and the largest other one, nothing fitted."""
    own = view.gather(1, labels[:, None])
    margin = (own - view.scatter(1, labels[:, None], -torch.inf).amax(1, True))[:, 0]
    share = to_shares(counts).gather(1, labels[:, None])[:, 0]
    return {"settings": label, "figures": compare_with_people(margin, share, calibrated=False)}


def blur(images: Tensor, sigma: float) -> Tensor:
    """Convolved with a Gaussian of that deviation, in pixels."""
    reach = torch.arange(-4, 5).float()
    weights = torch.exp(-(reach**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).view(1, 1, 1, -1).repeat(3, 1, 1, 1)
    sides = conv2d(pad(images, (4, 4, 0, 0), mode="reflect"), weights, groups=3)
    return conv2d(pad(sides, (0, 0, 4, 4), mode="reflect"), weights.transpose(2, 3), groups=3)


def changed(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Images that show less and less of their class."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    yield "unchanged", images
    for sigma in (0.05, 0.1, 0.2):
        yield (
            f"noise of deviation {sigma}",
            to_float(to_uint8((images + sigma * noise).clamp(0, 1))),
        )
    for sigma in (1.0, 2.0):
        yield f"blur of {sigma:g} pixels", blur(images, sigma)
    for quality in (30, 10):
        yield f"JPEG of quality {quality}", torch.stack([as_jpeg(x, quality) for x in images])


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """An image as a JPEG file shows it."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(image).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return to_float(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))


def measured(measure: SemanticMeasure, images: Tensor, labels: Tensor) -> Row:
    """The measure's view of some images."""
    scores = measure(images, labels)
    figures = {
        "semantic": scores.share, "in_set": scores.in_set, "clear": scores.clear,
        "set_size": scores.set_size, "empty": scores.set_size == 0,
    }  # fmt: skip
    return {name: round(float(values.double().mean()), 4) for name, values in figures.items()}


def attacked(measure: SemanticMeasure, run: Path, count: int, only: Sequence[str]) -> Iterator[Row]:
    """The cells of an assessment: the measure, the judge and LPIPS on the same images."""
    for file in sorted((run / "cells").glob("*/cell.json")):
        cell = json.loads(file.read_text())
        if only and cell["attack"] not in only:
            continue
        lines = [line for part in sorted(file.parent.glob("*.jsonl"))
                 for line in part.read_text().splitlines()]  # fmt: skip
        rows = [row for row in map(json.loads, lines) if "file" in row][:count]
        if len(rows) < min(count, cell["images"]):
            continue
        images = to_float(torch.stack([read_png(run / row["file"]) for row in rows]))
        labels = torch.tensor([row["label"] for row in rows])
        means = {
            "judge": sum(all(j["saved"] == row["label"] for j in row["judges"].values())
                         for row in rows) / len(rows),
            "success": sum(row["success"] for row in rows) / len(rows),
        }  # fmt: skip
        known = [row["lpips"] for row in rows if row.get("lpips") is not None]
        if len(known) == len(rows):
            means["lpips"] = round(sum(known) / len(known), 5)
        yield {
            "cell": cell["name"], "images": len(rows), **measured(measure, images, labels), **means,
        }  # fmt: skip


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--mixture", nargs="+", action="append", required=True)
    parser.add_argument("--measure", help="a card of scoreag train semantic")
    parser.add_argument("--humans-dir")
    parser.add_argument("--cache", type=Path, default=Path(".cache/semantic"))
    parser.add_argument("--run", nargs="*", type=Path, default=[], help="assessments with images")
    parser.add_argument("--attack", nargs="*", default=[], help="of these runs; else all")
    parser.add_argument("--name", default="semantic")
    args = parser.parse_args()
    data = load_dataset("cifar10:test", args.data_dir)
    figures = compare_mixtures(args, data)
    if not args.measure:
        return
    assert data.labels is not None
    measure = load_semantic(args.measure, "cpu")
    images, labels = to_float(data.images[: args.images]), data.labels[: args.images]
    figures["measure"] = {**measure.metadata, "members": list(measure.members.values())}
    figures["changed_images"] = args.images
    figures["changed"] = [
        {"change": what, **measured(measure, x, labels)} for what, x in changed(images)
    ]
    write(args.name, figures)
    figures["attacked"] = [
        row for run in args.run for row in attacked(measure, run, args.images, args.attack)
    ]
    write(args.name, figures)


def compare_mixtures(args: argparse.Namespace, data: Dataset) -> Row:
    """The figures of each network's margin, and of each mixture, against people."""
    assert data.labels is not None
    dtype = resolve_dtype("auto", "cpu")
    answers = load_human_answers("cifar10h", args.humans_dir or args.data_dir)
    counts = match_answers(answers, data.labels, data.image_ids, data.classes).counts
    names = dict.fromkeys(name for mixture in args.mixture for name in mixture)
    views = {name: views_of(name, data.images, args.cache, dtype) for name in names}
    rows = [
        raw_margin(f"margin of {Path(name).name}", view, counts, data.labels)
        for name, view in views.items()
    ]
    figures: Row = {
        "data": data.name, "humans": answers.identity, "answers": int(counts.sum()),
        "dtype": dtype, "people": rows,
    }  # fmt: skip
    for mixture in args.mixture:
        label = " + ".join(Path(name).name for name in mixture)
        stacked = torch.stack([views[name] for name in mixture], 1)
        rows += against_people(label, stacked, counts, data.labels)
        print(short(rows[-2]), flush=True)
        write(args.name, figures)
    return figures


if __name__ == "__main__":
    main()
