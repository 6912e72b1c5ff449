"""A score model's figures: how like real images its draws are, how varied, how far from copies."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.dataset import Dataset
from scoreag.evaluation import draws, speed
from scoreag.evaluation.bench import Bench, Model, spread
from scoreag.evaluation.copies import Pairs, closest, in_pixels, quantiles
from scoreag.evaluation.likeness import likeness
from scoreag.evaluation.loss import LEVELS, MOST, losses
from scoreag.evaluation.shards import kept
from scoreag.figures.entries import Entry, of_mean, of_quantile, of_rate
from scoreag.figures.features import Pixels
from scoreag.metrics.accuracy import share
from scoreag.metrics.neighbours import Nearest, nearest
from scoreag.runs.manifest import processor

SEARCHED = 10  # training images, for each draw, among which the nearest in features is looked for
DRAWN, TEST = "draws", "test images"


def evaluate(
    model: Model, bench: Bench, beside: Sequence[Model] = ()
) -> tuple[dict[str, Any], Pixels, Pairs]:
    """All figures of ``model`` as plain values, its draws, and those most like a training image.

    Args:
        beside: other score models, which get the same figures on the same images.
    """
    pixels, among = drawn(model, bench), bench.train.images
    near = in_pixels(pixels, among, bench.device)
    own = _short(model, bench)
    found = {
        "figures": {**own["figures"], **floor(bench)},
        "per_class": per_class(model, bench, pixels),
        "loss": own["loss"],
        "neighbours": neighbours(model, bench, pixels, near),
        "speed": timed(model, bench),
        "curve": [_point(model, own), *(_point(m, _short(m, bench)) for m in beside)],
    }
    found["curve"].sort(key=lambda point: point["images_seen"] or 0)
    return found, pixels, closest(pixels, among, near)


def _short(model: Model, bench: Bench) -> dict[str, Any]:
    return {"figures": quality(model, bench), "loss": loss(model, bench)}


def _point(model: Model, found: dict[str, Any]) -> dict[str, Any]:
    """A place on the curve over images seen."""
    return {
        "name": model.card.name, "sha256": model.card.sha256, "images_seen": model.images_seen
    } | found  # fmt: skip


def drawn(model: Model, bench: Bench) -> Pixels:
    """The draws of a model, from the disk where they are."""
    return draws.draw(
        model.prior, bench.folder, model.key, bench.images, bench.sampler, bench.calls,
        bench.seed, bench.micro_batch, bench.progress,
    )  # fmt: skip


def quality(model: Model, bench: Bench) -> dict[str, Entry]:
    """Distances, precision, recall, and what the judge says of the draws."""
    pixels = drawn(model, bench)
    found: dict[str, Entry] = {}
    for extract in bench.extractors:
        real = bench.features(extract, "test", bench.asked.images)
        found |= likeness(bench.features(extract, model.key, pixels), real, extract.name, DRAWN)
    if classes := len(model.prior.classes):
        hits = bench.said(model.key, pixels) == draws.spread_labels(len(pixels), classes)
        found["judge_accuracy"] = of_rate(share(hits, DRAWN))
    return found


def floor(bench: Bench) -> dict[str, Entry]:
    """What training images score in place of the draws, and the judge on test images."""
    found: dict[str, Entry] = {}
    for extract in bench.extractors:
        real = bench.features(extract, "test", bench.asked.images)
        training = spread(bench.train, bench.images).images
        rows = bench.features(extract, "floor", training)
        under = likeness(rows, real, extract.name, "training images")
        found |= {f"{name}_floor": entry for name, entry in under.items()}
    if bench.asked.labels is not None:
        hits = bench.said("test", bench.asked.images) == bench.asked.labels
        found["judge_accuracy_test"] = of_rate(share(hits, TEST))
    return found


def per_class(model: Model, bench: Bench, pixels: Pixels) -> dict[str, dict[str, Entry]]:
    """The judge's accuracy for each class, on draws and on test images."""
    names = model.prior.classes
    if not names:
        return {}
    test, labels = bench.asked, draws.spread_labels(len(pixels), len(names))
    hits = {DRAWN: (bench.said(model.key, pixels) == labels, labels)}
    if test.labels is not None:
        hits[TEST] = (bench.said("test", test.images) == test.labels, test.labels)
    return {
        name: {
            of: of_rate(share(hit, f"{of} of the class", shown == number))
            for of, (hit, shown) in hits.items()
        }
        for number, name in enumerate(names)
    }


def loss(model: Model, bench: Bench) -> dict[str, Any]:
    """The denoising loss at each level, on training and on test images."""
    found: dict[str, Any] = {"levels": list(LEVELS)}
    count = min(bench.images, MOST)
    for name, whole in (("train", bench.train), ("test", bench.asked)):
        data = spread(whole, count)
        rows = kept(
            bench.folder, f"loss-{model.key}-{name}", len(data), bench.micro_batch,
            partial(_losses, model, bench, data), bench.progress,
        )  # fmt: skip
        found[name] = [of_mean(column, f"{name} images") for column in rows.T]
    return found


def _losses(model: Model, bench: Bench, data: Dataset, piece: range) -> torch.Tensor:
    part = data[piece.start : piece.stop]
    labels = part.labels if model.prior.classes else None
    sd = model.card.sigma_data
    return losses(model.prior, part.images, labels, [*part.image_ids], sd, bench.micro_batch)


def neighbours(model: Model, bench: Bench, pixels: Pixels, near: Nearest) -> dict[str, Any]:
    """How near draws and test images come to a training image, in pixels and in features."""
    among = bench.train.images
    real = in_pixels(bench.asked.images, among, bench.device)
    found = {
        "pixels": {of: quantiles(one, of, len(among)) for of, one in ((DRAWN, near), (TEST, real))}
    }
    searched = spread(bench.train, SEARCHED * bench.images).images
    for extract in bench.extractors:
        given = bench.features(extract, "train", searched)
        sets = {DRAWN: (model.key, pixels), TEST: ("test", bench.asked.images)}
        found[extract.name] = {
            of: quantiles(nearest(bench.features(extract, *kind), given), of, len(given))
            for of, kind in sets.items()
        }
    return found


def _extremes(seconds: Tensor) -> Entry:
    """In place of an interval: the repeats of one machine are no sample of others."""
    ends = {
        name: float(f"{x:.7g}") for name, x in zip(("low", "high"), seconds.aminmax(), strict=True)
    }
    return ends | {"interval": "all repeats"}


def timed(model: Model, bench: Bench) -> dict[str, Any]:
    """Seconds an image at 18, 35 and 64 calls: the median of the repeats, and their extremes."""
    rows = kept(
        bench.folder, f"speed-{model.key}", speed.REPEATS, 1,
        lambda piece: speed.seconds(model.prior, bench.micro_batch)[None], bench.progress,
    )  # fmt: skip
    entries = {
        str(calls): of_quantile(column, 0.5, "repeats") | _extremes(column)
        for calls, column in zip(speed.CALLS, rows.T, strict=True)
    }
    gpu = bench.device.type == "cuda"
    machine = torch.cuda.get_device_name(bench.device) if gpu else processor()
    return {
        "machine": machine,
        "threads": torch.get_num_threads(),
        "images_at_once": bench.micro_batch,
        "seconds": entries,
    }
