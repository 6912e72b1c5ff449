"""The tour as a page and as a table for the terminal."""

import torch
from torch import Tensor

from scoreag.report.demo import HEADER, DemoReport, PredictedImages, summary_rows, summary_sentences
from scoreag.report.html import definition_list, paragraph, render_page, section, table
from scoreag.report.image_grid import ImageCell, gallery, strip

CAPTION = (
    "Counts, with 95 % intervals (Wilson) below. Right: says the class that the picture shows. "
    "Fooled: of the images that were right before; of those drawn from nothing, of all. Largest "
    "change: of any colour value against the real image, the median over the images. Model "
    "calls: evaluations of the score model an image, on average."
)


def render_demo_page(report: DemoReport) -> str:
    """The report, as one HTML file."""
    real = [_real_strip(report, row) for row in range(len(report.labels))]
    drawn = [_sample_strip(report, row) for row in range(len(report.sample_labels))]
    body = [
        section("In figures", table(CAPTION, HEADER, summary_rows(report))),
        section("Real images", *map(paragraph, _describe_real(report)), gallery(real, 24)),
        section("From nothing", paragraph(_describe_samples(report)), gallery(drawn, 7)),
        section("The words", definition_list(_glossary(report))),
    ]
    return render_page(
        "How does this classifier fail?", summary_sentences(report), body, report.footer
    )


def format_demo_text(report: DemoReport) -> str:
    """The same table in columns of plain text, without the intervals."""
    rows = [
        HEADER,
        *([e if isinstance(e, str) else e[0] for e in row] for row in summary_rows(report)),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ("  ".join(e.ljust(w) for e, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _real_strip(report: DemoReport, row: int) -> str:
    """One real image and what was made of it."""
    label, before = int(report.labels[row]), bool(report.clean_correct[row])
    cells = [
        _image_cell(report, report.original, row, "real", "right" if before else "wrong", before)
    ]
    for shown, name in ((report.pgd, "PGD"), (report.gat, "GAT")):
        fooled = int(shown.classifier_predictions[row]) != label
        words = ("fooled" if fooled else "not fooled") if before else "wrong before"
        cells.append(_image_cell(report, shown, row, name, words, fooled if before else None))
    right = int(report.gap.classifier_predictions[row]) == label
    cells.append(_image_cell(report, report.gap, row, "GAP", "right" if right else "wrong", right))
    return strip(f"{report.classes[label]}, image {report.image_ids[row]}", cells)


def _sample_strip(report: DemoReport, row: int) -> str:
    """One image drawn from nothing."""
    asked = int(report.sample_labels[row])
    fooled = int(report.gas.classifier_predictions[row]) != asked
    words = "fooled" if fooled else "not fooled"
    cell = _image_cell(report, report.gas, row, report.classes[asked], words, fooled)
    return strip("", [cell])


def _image_cell(
    report: DemoReport,
    version: PredictedImages,
    row: int,
    name: str,
    outcome: str,
    good: bool | None,
) -> ImageCell:
    classifier, judge = (
        _class_name(report, version.classifier_predictions[row]),
        _class_name(report, version.judge_predictions[row]),
    )
    alt = f"{name}; the classifier says {classifier}, the judge says {judge}"
    lines = (("says", classifier), ("judge", judge))
    return ImageCell(version.images[row], name, alt, lines, outcome, good)


def _class_name(report: DemoReport, label: Tensor) -> str:
    return report.classes[int(label)]


def _describe_real(report: DemoReport) -> tuple[str, str]:
    return (
        f"{len(report.labels)} images, {report.source}: as they are; with PGD's noise; transformed by "
        "GAT; and PGD's image purified by GAP. All of them are here, the failures too. Below "
        "each stands what the classifier says, and what the judge does.",
        "A tick says that a step did what it set out to do: PGD and GAT fool the classifier, GAP "
        "makes it right. A cross says that it did not, a dash that the classifier was wrong "
        "before.",
    )


def _describe_samples(report: DemoReport) -> str:
    seen, fooled = (
        report.gas.judge_predictions == report.sample_labels,
        report.gas.classifier_predictions != report.sample_labels,
    )
    both = int(torch.logical_and(seen, fooled).sum())
    aimed = report.targets >= 0
    wanted = int((aimed & (report.gas.classifier_predictions == report.targets)).sum())
    return (
        f"{len(report.sample_labels)} images drawn from pure noise, each asked to show the class in bold and "
        f"to be taken for another. The classifier says the very class it was led to in {wanted} of "
        f"{int(aimed.sum())}; {both} of {len(report.sample_labels)} fool it while the judge sees the class "
        "asked for."
    )


def _glossary(report: DemoReport) -> list[tuple[str, str]]:
    return [
        ("classifier", f"{report.classifier}: the network whose errors are looked for."),
        (
            "judge",
            f"{report.judge}: another network, whose weights are not the classifier's. It guided "
            "nothing and nothing was aimed at it; it stands in for a person who says what a "
            "picture shows, as far as it is right on the real images.",
        ),
        (
            "PGD",
            "projected gradient ascent on the classifier's loss, the usual attack: "
            f"{report.pgd_steps} steps, no colour value moved by more than {report.format_eps}.",
        ),
        (
            "GAT",
            "generative adversarial transformation: the image is drawn again from a score model, "
            "near the original and such that the classifier errs. No bound on the change.",
        ),
        (
            "GAP",
            "generative adversarial purification: the most natural image near the one attacked. "
            "It knows neither the attack nor the class.",
        ),
        (
            "GAS",
            "generative adversarial synthesis: an image of a class, drawn from noise, that the "
            "classifier takes for another.",
        ),
    ]
