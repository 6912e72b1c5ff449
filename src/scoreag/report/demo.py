"""The tour in figures and in two sentences: what two networks said of which images."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from scoreag.core.types import Labels
from scoreag.io.images import to_float
from scoreag.metrics.norms import linf
from scoreag.report.html import TableCell, format_count
from scoreag.stats.proportion import accuracy, compute_proportion


@dataclass(frozen=True)
class PredictedImages:
    """8-bit images, and the classes that the classifier and the judge say they show."""

    images: UInt8[Tensor, "batch channel height width"]
    classifier_predictions: Labels
    judge_predictions: Labels


@dataclass(frozen=True)
class DemoReport:
    """All that the page tells, rows in the order of ``labels`` (real) and ``asked`` (drawn).

    Args:
        gap: the images of ``pgd``, purified.
        free: unguided draws from the seeds of ``gas``, the score model's own ceiling.
        asked, aimed: what a drawn image shall show, and what the classifier shall say; -1: errs.
        calls: denoiser calls an image, on average, by task.
        foot: how it came about: models, seed, time.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    labels: Labels
    original: PredictedImages
    pgd: PredictedImages
    gat: PredictedImages
    gap: PredictedImages
    sample_labels: Int[Tensor, " drawn"]
    targets: Int[Tensor, " drawn"]
    unguided: PredictedImages
    gas: PredictedImages
    eps: float
    pgd_steps: int
    nfe: Mapping[str, float]
    classifier: str = "the classifier"
    judge: str = "the judge"
    source: str = "given by the user"
    footer: tuple[str, ...] = ()

    @property
    def format_eps(self) -> str:
        """PGD's radius, e.g. 8/255."""
        return f"{255 * self.eps:g}/255"

    @property
    def clean_correct(self) -> Bool[Tensor, " batch"]:
        """The real images that the classifier gets right before anything is done to them."""
        return self.original.classifier_predictions == self.labels

    def fooled(self, version: PredictedImages) -> Bool[Tensor, " batch"]:
        """Those of them that it gets wrong in another version."""
        return self.clean_correct & (version.classifier_predictions != self.labels)


HEADER = ("images", "classifier right", "fooled", "judge right", "largest change", "model calls")


def summary_rows(report: DemoReport) -> list[list[TableCell]]:
    """The table under ``HEADER``: a row a kind of images, counts with their denominators."""
    fooled = compute_proportion(
        report.gas.classifier_predictions != report.sample_labels, "drawn images"
    )
    return [
        ["real images", *_accuracy_cells(report.original, report.labels, ""), "", ""],
        [
            f"PGD, {report.format_eps}",
            *_success_cells(report, report.pgd),
            _linf_cell(report, report.pgd),
            "",
        ],
        [
            "GAT",
            *_success_cells(report, report.gat),
            _linf_cell(report, report.gat),
            _nfe_cell(report, "gat"),
        ],
        [
            "GAP of PGD's",
            *_accuracy_cells(report.gap, report.labels, ""),
            _linf_cell(report, report.gap),
            _nfe_cell(report, "gap"),
        ],
        [
            "unguided draws",
            *_accuracy_cells(report.unguided, report.sample_labels, ""),
            "",
            _nfe_cell(report, "free"),
        ],
        [
            "GAS",
            *_accuracy_cells(report.gas, report.sample_labels, format_count(fooled)),
            "",
            _nfe_cell(report, "gas"),
        ],
    ]


def summary_sentences(report: DemoReport) -> tuple[str, str]:
    """Two sentences that are true whatever the figures are."""
    return _gat_sentence(report), _pgd_gap_gas_sentence(report)


def _gat_sentence(report: DemoReport) -> str:
    right, fooled = int(report.clean_correct.sum()), report.fooled(report.gat)
    count, seen = (
        int(fooled.sum()),
        int((fooled & (report.gat.judge_predictions == report.labels)).sum()),
    )
    judged = (
        f"; in {seen} of these {count} a second network, which guided nothing, still sees the "
        "true class"
    )
    return (
        f"{report.classifier} gets {right} of {len(report.labels)} real images right, and moving "
        "those along what a score model holds for natural (GAT) makes it err on "
        f"{count} of these {right}{judged if count else ''}."
    )


def _pgd_gap_gas_sentence(report: DemoReport) -> str:
    right, fooled = int(report.clean_correct.sum()), report.fooled(report.pgd)
    count, back = (
        int(fooled.sum()),
        int((fooled & (report.gap.classifier_predictions == report.labels)).sum()),
    )
    repaired = f", and purifying them (GAP) makes {back} of these {count} right again"
    drawn = report.gas.classifier_predictions != report.sample_labels
    taken, shown = (
        int(drawn.sum()),
        int((drawn & (report.gas.judge_predictions == report.sample_labels)).sum()),
    )
    agreed = f", {shown} of which the second network sees as asked"
    return (
        f"Noise of at most {report.format_eps} (PGD) fools it on {count} of these {right}"
        f"{repaired if count else ''}; of {len(report.sample_labels)} images drawn from nothing (GAS) it "
        f"takes {taken} for another class than the one asked for{agreed if taken else ''}."
    )


def _accuracy_cells(version: PredictedImages, labels: Labels, fooled: TableCell) -> list[TableCell]:
    return [
        format_count(accuracy(version.classifier_predictions, labels)),
        fooled,
        format_count(accuracy(version.judge_predictions, labels)),
    ]


def _success_cells(report: DemoReport, version: PredictedImages) -> list[TableCell]:
    fooled = compute_proportion(
        version.classifier_predictions != report.labels, "images right before", report.clean_correct
    )
    return _accuracy_cells(version, report.labels, format_count(fooled))


def _linf_cell(report: DemoReport, version: PredictedImages) -> TableCell:
    moved = linf(to_float(report.original.images), to_float(version.images))
    return f"{255 * moved.quantile(0.5).item():.0f}/255"


def _nfe_cell(report: DemoReport, task: str) -> TableCell:
    return f"{report.nfe[task]:.0f}"
