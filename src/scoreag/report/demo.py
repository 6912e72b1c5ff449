"""The page of the demo and its table for the terminal: two classifiers' predictions for images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from scoreag.classifiers.probabilities import list_probabilities
from scoreag.core.types import Labels
from scoreag.io.images import to_float
from scoreag.metrics.norms import linf
from scoreag.report.html import ImageCell, Strip, TableCell, render_page
from scoreag.report.images import difference_cell, format_share, rank_classes
from scoreag.report.provenance import describe_reproduction
from scoreag.stats.proportion import Proportion, accuracy, compute_proportion

HEADER = ("images", "correct", "fooled", "reference correct", "largest change", "NFE")


@dataclass(frozen=True)
class PredictedImages:
    """8-bit images with the predictions of the classifier and of the reference classifier.

    Args:
        probabilities: of the classes, by the classifier.
    """

    images: UInt8[Tensor, "batch channel height width"]
    classifier_predictions: Labels
    judge_predictions: Labels
    probabilities: Float[Tensor, "batch classes"] | None = None


@dataclass(frozen=True)
class DemoReport:
    """What the page shows; rows in the order of ``labels`` (real) or ``sample_labels`` (generated).

    Args:
        gap: the images of ``pgd``, purified.
        unguided: samples from the seeds of ``gas`` without attack: an upper bound of quality.
        sample_labels, targets: the class to show, and the class to be predicted; -1: any other.
        nfe: denoiser evaluations per image, on average, by task.
        generated_classes, generated_classifier: where generated images are of another data set.
        footer: models, seed and time.
        provenance: the command, the seed and the versions, as in a manifest.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    labels: Labels
    original: PredictedImages
    pgd: PredictedImages
    gat: PredictedImages
    gap: PredictedImages
    sample_labels: Int[Tensor, " generated"]
    targets: Int[Tensor, " generated"]
    unguided: PredictedImages
    gas: PredictedImages
    eps: float
    pgd_steps: int
    nfe: Mapping[str, float]
    classifier: str = "the classifier"
    judge: str = "the reference classifier"
    source: str = "given by the user"
    generated_classes: tuple[str, ...] = ()
    generated_classifier: str = ""
    footer: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def radius(self) -> str:
        """PGD's radius, e.g. 8/255."""
        return f"{255 * self.eps:g}/255"

    @property
    def clean_correct(self) -> Bool[Tensor, " batch"]:
        """The real images that the classifier gets right."""
        return self.original.classifier_predictions == self.labels

    def fooled(self, version: PredictedImages) -> Bool[Tensor, " batch"]:
        """Those of them that it gets wrong in another version."""
        return self.clean_correct & (version.classifier_predictions != self.labels)


def render_demo_page(report: DemoReport) -> str:
    """The report as one HTML file."""
    return render_page(
        "demo",
        title="How does this classifier fail?",
        lead=summary_sentences(report),
        report=report,
        table=(HEADER, summary_rows(report)),
        real=[_real_strip(report, row) for row in range(len(report.labels))],
        generated=[_generated_strip(report, row) for row in range(len(report.sample_labels))],
        **_count_generated(report),
        reproduction=describe_reproduction(report.provenance),
        footer=report.footer,
    )


def format_demo_text(report: DemoReport) -> str:
    """The table in columns of plain text, without the intervals."""
    rows = [[e if isinstance(e, str) else e[0] for e in row] for row in summary_rows(report)]
    columns = zip(HEADER, *rows, strict=True)
    padded = [[e.ljust(max(map(len, column))) for e in column] for column in columns]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


@dataclass(frozen=True)
class MeasuredImages:
    """What the classifiers say of one kind of image, the median largest change, and the cost."""

    name: str
    correct: Proportion
    fooled: Proportion | None
    judge_correct: Proportion
    largest_change: str
    nfe: float | None


def summary_rows(report: DemoReport) -> list[list[TableCell]]:
    """The table under ``HEADER``: a row per kind of image, counts with their denominators."""
    return [
        [
            one.name, format_count(one.correct),
            "" if one.fooled is None else format_count(one.fooled), format_count(one.judge_correct),
            one.largest_change, "" if one.nfe is None else f"{one.nfe:.0f}",
        ]
        for one in measure_images(report)
    ]  # fmt: skip


def measure_images(report: DemoReport) -> list[MeasuredImages]:
    """Each kind of image: real, attacked, purified, generated."""

    def row(
        name: str, version: PredictedImages, labels: Labels, task: str = "",
        eligible: Tensor | None = None, moved: bool = False,
    ) -> MeasuredImages:  # fmt: skip
        wrong = version.classifier_predictions != labels
        return MeasuredImages(
            name,
            accuracy(version.classifier_predictions, labels),
            None if eligible is None else compute_proportion(wrong, "", eligible),
            accuracy(version.judge_predictions, labels),
            _median_linf(report.original, version) if moved else "",
            float(report.nfe[task]) if task else None,
        )

    real, generated, correct = report.labels, report.sample_labels, report.clean_correct
    return [
        row("real images", report.original, real),
        row(f"PGD, {report.radius}", report.pgd, real, eligible=correct, moved=True),
        row("GAT", report.gat, real, "gat", eligible=correct, moved=True),
        row("GAP of PGD's", report.gap, real, "gap", moved=True),
        row("plain samples", report.unguided, generated, "free"),
        row("GAS", report.gas, generated, "gas", eligible=generated >= 0),
    ]


def format_count(proportion: Proportion) -> TableCell:
    """``18 of 20`` with the interval below."""
    low, high = proportion.interval
    return f"{proportion.count} of {proportion.total}", f"{100 * low:.0f} to {100 * high:.0f} %"


def _median_linf(original: PredictedImages, version: PredictedImages) -> str:
    moved = linf(to_float(original.images), to_float(version.images))
    return f"{255 * moved.quantile(0.5).item():.0f}/255"


def summary_sentences(report: DemoReport) -> tuple[str, str]:
    """The outcome of GAT; and that of PGD, GAP and GAS."""
    return _describe_gat(report), _describe_others(report)


def _describe_gat(report: DemoReport) -> str:
    correct, fooled = int(report.clean_correct.sum()), report.fooled(report.gat)
    preserved = fooled & (report.gat.judge_predictions == report.labels)
    count = int(fooled.sum())
    text = (
        f"{report.classifier} classifies {correct} of {len(report.labels)} real images correctly, "
        f"and transforming these with a score model (GAT) fools it on {count} of {correct}"
    )
    if count:
        text += (
            f"; in {int(preserved.sum())} of these {count} a second network, which guided nothing, "
            "still sees the true class"
        )
    return f"{text}."


def _describe_others(report: DemoReport) -> str:
    correct, fooled = int(report.clean_correct.sum()), report.fooled(report.pgd)
    repaired = fooled & (report.gap.classifier_predictions == report.labels)
    count = int(fooled.sum())
    text = f"Noise of at most {report.radius} (PGD) fools it on {count} of {correct}"
    if count:
        text += f", and purification (GAP) corrects {int(repaired.sum())} of these {count}"
    n_wrong = int((report.gas.classifier_predictions != report.sample_labels).sum())
    text += (
        f"; {report.generated_classifier or 'it'} misclassifies {n_wrong} of "
        f"{len(report.sample_labels)} images generated from noise (GAS)"
    )
    if n_wrong:
        n_preserved = _count_generated(report)["n_preserved"]
        text += (
            f", and the second network sees the intended class in {n_preserved} of these {n_wrong}"
        )
    return f"{text}."


def _count_generated(report: DemoReport) -> dict[str, Any]:
    """How often GAS reached its targets, and fooled the classifier with the label preserved."""
    predictions, labels = report.gas.classifier_predictions, report.sample_labels
    targeted = report.targets >= 0
    preserved = report.gas.judge_predictions == labels
    return {
        "n_targeted": int(targeted.sum()),
        "n_on_target": int((targeted & (predictions == report.targets)).sum()),
        "n_preserved": int((preserved & (predictions != labels)).sum()),
    }


def _real_strip(report: DemoReport, row: int) -> Strip:
    """A real image with its attacked and purified versions."""
    label, correct = int(report.labels[row]), bool(report.clean_correct[row])

    def cell(name: str, version: PredictedImages, is_attack: bool) -> ImageCell:
        right = int(version.classifier_predictions[row]) == label
        if not is_attack:
            return _image_cell(report, version, row, name, "correct" if right else "wrong", right)
        if not correct:
            return _image_cell(report, version, row, name, "misclassified before", None)
        outcome = "not fooled" if right else "fooled"
        return _image_cell(report, version, row, name, outcome, not right)

    kinds = [
        ("real", report.original, False), ("PGD", report.pgd, True), ("GAT", report.gat, True),
        ("GAP", report.gap, False),
    ]  # fmt: skip
    title = f"{report.classes[label]}, image {report.image_ids[row]}"
    real, pgd, gat, gap = (version.images[row] for _, version, _ in kinds)
    changes = (("PGD minus real", real, pgd), ("GAT minus real", real, gat),
               ("GAP minus PGD", pgd, gap))  # fmt: skip
    differences = [difference_cell(*change, is_detail=True) for change in changes]
    return Strip(title, [*(cell(*kind) for kind in kinds), *differences])


def _generated_strip(report: DemoReport, row: int) -> Strip:
    label = int(report.sample_labels[row])
    fooled = int(report.gas.classifier_predictions[row]) != label
    if report.generated_classes:
        report = replace(report, classes=report.generated_classes)
    outcome = "fooled" if fooled else "not fooled"
    return Strip("", [_image_cell(report, report.gas, row, report.classes[label], outcome, fooled)])


def _image_cell(
    report: DemoReport, version: PredictedImages, row: int, name: str, outcome: str,
    good: bool | None,
) -> ImageCell:  # fmt: skip
    classifier, judge = (
        report.classes[int(predictions[row])]
        for predictions in (version.classifier_predictions, version.judge_predictions)
    )
    shares = None if version.probabilities is None else version.probabilities[row]
    lines = (("classifier", _with_share(classifier, shares)), ("reference", judge))
    alt = f"{name}; the classifier predicts {classifier}, the reference classifier {judge}"
    (listed,) = [None] if shares is None else list_probabilities(shares[None])
    bars = rank_classes(listed, report.classes)
    return ImageCell(version.images[row], name, alt, lines, outcome, good, bars)


def _with_share(name: str, shares: Float[Tensor, " classes"] | None) -> str:
    """A predicted class with its probability, which is the largest."""
    return name if shares is None else f"{name}, {format_share(float(shares.max()))}"
