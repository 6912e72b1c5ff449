"""The counts of a demo: a row for each kind of image, with denominators and intervals."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from scoreag.core.types import Labels
from scoreag.io.images import to_float
from scoreag.metrics.norms import linf
from scoreag.report.demo_images import AttackedClassifier, DemoReport, PredictedImages
from scoreag.report.html import TableCell
from scoreag.stats.proportion import Proportion, accuracy, compute_proportion

HEADER = ("images", "correct", "fooled", "reference correct", "largest change", "NFE")


@dataclass(frozen=True)
class MeasuredImages:
    """What the classifiers say of one kind of image, the median largest change, and the cost."""

    name: str
    classifier: str
    correct: Proportion
    fooled: Proportion | None
    judge_correct: Proportion
    largest_change: str = ""
    nfe: float | None = None


def measure_images(report: DemoReport) -> list[MeasuredImages]:
    """Each kind of image, in the order of the tour: generated, real, attacked, purified."""
    return [
        *_measure_generated(report),
        *_measure_attacked(report, report.plain),
        *_measure_attacked(report, report.robust),
        *_measure_purified(report),
    ]


def _measure_generated(report: DemoReport) -> Iterator[MeasuredImages]:
    made = report.generated
    for name, version, nfe, every in (
        ("plain samples", made.unguided, made.nfe[0], None),
        ("GAS", made.gas, made.nfe[1], made.labels >= 0),
    ):
        yield _measure(name, made.classifier, version, made.labels, every, None, nfe)


def _measure_attacked(report: DemoReport, tested: AttackedClassifier) -> Iterator[MeasuredImages]:
    name, labels, original = tested.name, tested.labels, tested.original
    yield _measure("real images", name, original, labels)
    for kind, version, nfe in (
        (f"PGD, {report.radius}", tested.pgd, None),
        ("GAT", tested.gat, tested.nfe),
    ):
        yield _measure(kind, name, version, labels, tested.clean_correct, original, nfe)


def _measure_purified(report: DemoReport) -> Iterator[MeasuredImages]:
    found, plain = report.purified, report.plain
    for kind, version, nfe in (
        ("GAP of real images", found.clean, found.nfe),
        ("GAP of PGD's", found.blind, found.nfe),
        ("PGD through GAP", found.white_box, None),
        ("GAP of these", found.white_box_purified, found.nfe),
    ):
        labels = plain.labels[: len(version.images)]
        yield _measure(kind, plain.name, version, labels, None, plain.original, nfe)


def _measure(
    name: str,
    classifier: str,
    version: PredictedImages,
    labels: Labels,
    eligible: Tensor | None = None,
    original: PredictedImages | None = None,
    nfe: float | None = None,
) -> MeasuredImages:
    """One kind of image.

    Args:
        eligible: the images of which the fooled ones are counted.
        original: the images before the change.
    """
    wrong = version.classifier_predictions != labels
    return MeasuredImages(
        name,
        classifier,
        count_correct(version, labels),
        None if eligible is None else compute_proportion(wrong, "", eligible),
        accuracy(version.judge_predictions, labels),
        "" if original is None else _median_linf(original.first(len(labels)), version),
        nfe,
    )


def count_correct(version: PredictedImages, labels: Labels) -> Proportion:
    """The images that the classifier gets right, of all."""
    return accuracy(version.classifier_predictions, labels)


def summary_rows(report: DemoReport) -> list[list[TableCell]]:
    """The table under ``HEADER``; below the name of a row is its classifier's."""
    return [
        [
            (one.name, one.classifier), format_count(one.correct),
            "" if one.fooled is None else format_count(one.fooled), format_count(one.judge_correct),
            one.largest_change, "" if one.nfe is None else f"{one.nfe:.0f}",
        ]
        for one in measure_images(report)
    ]  # fmt: skip


def format_count(proportion: Proportion) -> TableCell:
    """``18 of 20`` with the interval below."""
    low, high = proportion.interval
    return f"{proportion.count} of {proportion.total}", f"{100 * low:.0f} to {100 * high:.0f} %"


def _median_linf(original: PredictedImages, version: PredictedImages) -> str:
    moved = linf(to_float(original.images), to_float(version.images))
    return f"{255 * moved.quantile(0.5).item():.0f}/255"
