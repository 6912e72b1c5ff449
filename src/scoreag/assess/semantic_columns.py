"""The measure ``semantic`` in an assessment: columns of rows, metrics of cells, and what it needs.

It is calibrated on real images only, so it stands beside the reference classifiers, and no other
metric depends on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scoreag.core.class_names import lacks_class_names
from scoreag.core.types import Images, Labels
from scoreag.io.records import Row
from scoreag.metrics.semantic import SemanticMeasure
from scoreag.stats.estimates import MetricEntry, bootstrap_ci, from_proportion
from scoreag.stats.proportion import compute_proportion

COLUMN = "semantic"
METRICS = {  # by its name, the figure of a row
    "semantic": ("saved", "share"),
    "semantic_in_set": ("saved", "in_set"),
    "semantic_clear": ("saved", "clear"),
    "semantic_before": ("before", "share"),
}


def score_images(
    measure: SemanticMeasure, labels: Labels, saved: Images, before: Images | None
) -> dict[str, list[dict[str, Any]]]:
    """The column of some rows: the share, and whether the label is in the set, by image."""
    kinds = {"saved": saved} | ({} if before is None else {"before": before})
    rows: list[dict[str, Any]] = [{} for _ in range(len(saved))]
    for kind, images in kinds.items():
        scores = measure(images, labels.to(images.device))
        for row, share, in_set, clear in zip(
            rows, scores.share.tolist(), scores.in_set.tolist(), scores.clear.tolist(), strict=True
        ):
            row[kind] = {"share": round(share, 4), "in_set": in_set, "clear": clear}
    return {COLUMN: rows}


def semantic_metrics(rows: Sequence[Row], population: str) -> dict[str, MetricEntry]:
    """The mean share of people, and how often the label is in the set, or alone in it."""
    entries: dict[str, MetricEntry] = {}
    if not rows or COLUMN not in rows[0]:
        return entries
    for name, (kind, figure) in METRICS.items():
        if kind not in rows[0][COLUMN]:
            continue
        values = torch.tensor([float(row[COLUMN][kind][figure]) for row in rows]).double()
        if figure == "share":
            entries[name] = {**bootstrap_ci(values, population), "unit": "share"}
        else:
            entries[name] = from_proportion(compute_proportion(values > 0, population))
    return entries


def check_measure(
    measure: SemanticMeasure, classes: Sequence[str], attacked: Mapping[str, Any]
) -> None:
    """Refuse a measure of other classes, or one that mixes a classifier that is attacked.

    Args:
        attacked: the digests of the weights of the classifiers, by name.
    """
    name, own = measure.metadata["name"], measure.classifier.classes
    if not lacks_class_names(classes) and tuple(classes) != own:
        raise ValueError(
            f"{name} is about {', '.join(own[:4])}, ..., and the dataset has "
            f"{', '.join(classes[:4])}, ...; give a measure of its classes"
        )
    for classifier, digest in attacked.items():
        if digest in measure.members:
            raise ValueError(
                f"{name} mixes {measure.members[digest]}, which is attacked as {classifier}, so it "
                "would be fooled, too; make one of other networks: scoreag train semantic "
                "--networks"
            )
