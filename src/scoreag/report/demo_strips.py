"""The images of a demo's page: versions of one image side by side, with who predicts what."""

from collections.abc import Sequence

from scoreag.classifiers.probabilities import list_probabilities
from scoreag.report.demo_images import AttackedClassifier, DemoReport, PredictedImages
from scoreag.report.images import (
    ImageCell,
    Pixels,
    Strip,
    difference_cell,
    format_share,
    rank_classes,
)

Outcome = tuple[str, bool | None]  # in words, and whether it is what the method aims at
NO_OUTCOME: Outcome = ("", None)


def attacked_strips(report: DemoReport, tested: AttackedClassifier) -> list[Strip]:
    """Each real image beside PGD's and GAT's."""
    strips = []
    for row, label in enumerate(tested.labels.tolist()):
        was_correct = bool(tested.clean_correct[row])
        kinds = [
            ("real", tested.original, _purified(tested.original, row, label)),
            ("PGD", tested.pgd, _attacked(tested.pgd, row, label, was_correct)),
            ("GAT", tested.gat, _attacked(tested.gat, row, label, was_correct)),
        ]
        cells = [_image_cell(report.classes, one, row, name, told) for name, one, told in kinds]
        real, pgd, gat = (cell.pixels for cell in cells)
        changes = (("PGD minus real", real, pgd), ("GAT minus real", real, gat))
        strips.append(Strip(_title(report, row, label), [*cells, *_differences(changes)]))
    return strips


def purified_strips(report: DemoReport) -> list[Strip]:
    """PGD's image and its purified version, without and with knowledge of GAP."""
    found, plain = report.purified, report.plain
    strips = []
    for row, label in enumerate(plain.labels[: len(found.white_box.images)].tolist()):
        was_correct = bool(plain.clean_correct[row])
        kinds = [
            ("blind PGD", plain.pgd, _attacked(plain.pgd, row, label, was_correct)),
            ("after GAP", found.blind, _purified(found.blind, row, label)),
            ("PGD through GAP", found.white_box, NO_OUTCOME),
            ("after GAP", found.white_box_purified,
             _purified(found.white_box_purified, row, label)),
        ]  # fmt: skip
        cells = [_image_cell(report.classes, one, row, name, told) for name, one, told in kinds]
        real, (blind, _, through, _) = plain.original.images[row], (c.pixels for c in cells)
        changes = (
            ("blind PGD minus real", real, blind),
            ("PGD through GAP minus real", real, through),
        )
        strips.append(Strip(_title(report, row, label), [*cells, *_differences(changes)]))
    return strips


def generated_strips(report: DemoReport) -> list[Strip]:
    """Each plain sample beside the image that GAS makes of the same noise."""
    made = report.generated
    strips = []
    for row, label in enumerate(made.labels.tolist()):
        outcome = _attacked(made.gas, row, label, True)
        cells = [
            _image_cell(made.classes, made.unguided, row, "plain", NO_OUTCOME),
            _image_cell(made.classes, made.gas, row, "GAS", outcome),
        ]
        strips.append(Strip(made.classes[label], cells))
    return strips


def _title(report: DemoReport, row: int, label: int) -> str:
    return f"{report.classes[label]}, image {report.image_ids[row]}"


def _purified(version: PredictedImages, row: int, label: int) -> Outcome:
    right = int(version.classifier_predictions[row]) == label
    return ("correct" if right else "wrong"), right


def _attacked(version: PredictedImages, row: int, label: int, was_correct: bool) -> Outcome:
    if not was_correct:
        return "wrong before", None
    right = int(version.classifier_predictions[row]) == label
    return ("not fooled" if right else "fooled"), not right


def _differences(changes: Sequence[tuple[str, Pixels, Pixels]]) -> list[ImageCell]:
    return [difference_cell(*change, is_detail=True) for change in changes]


def _image_cell(
    classes: Sequence[str], version: PredictedImages, row: int, name: str, outcome: Outcome
) -> ImageCell:
    classifier, judge = (
        classes[int(predictions[row])]
        for predictions in (version.classifier_predictions, version.judge_predictions)
    )
    shares = None if version.probabilities is None else version.probabilities[row]
    # a predicted class has the largest probability
    said = classifier if shares is None else f"{classifier}, {format_share(float(shares.max()))}"
    alt = f"{name}; the classifier predicts {classifier}, the reference classifier {judge}"
    (listed,) = [None] if shares is None else list_probabilities(shares[None])
    bars = rank_classes(listed, classes)
    lines = (("classifier", said), ("reference", judge))
    return ImageCell(version.images[row], name, alt, lines, *outcome, bars)
