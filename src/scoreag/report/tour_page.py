"""The tour as a page and as a table for the terminal."""

import torch
from torch import Tensor

from scoreag.report.page import page, paragraph, section, table, terms
from scoreag.report.pictures import Cell, gallery, strip
from scoreag.report.tour import HEADER, Shown, Tour, figures, meaning

CAPTION = (
    "Counts, with 95 % intervals (Wilson) below. Right: says the class that the picture shows. "
    "Fooled: of the images that were right before; of those drawn from nothing, of all. Largest "
    "change: of any colour value against the real image, the median over the images. Model "
    "calls: evaluations of the score model an image, on average."
)


def tour_page(tour: Tour) -> str:
    """The report, as one HTML file."""
    real = [_real(tour, row) for row in range(len(tour.labels))]
    drawn = [_drawn(tour, row) for row in range(len(tour.asked))]
    body = [
        section("In figures", table(CAPTION, HEADER, figures(tour))),
        section("Real images", *map(paragraph, _about_real(tour)), gallery(real, 24)),
        section("From nothing", paragraph(_about_drawn(tour)), gallery(drawn, 7)),
        section("The words", terms(_terms(tour))),
    ]
    return page("How does this classifier fail?", meaning(tour), body, tour.foot)


def tour_text(tour: Tour) -> str:
    """The same table in columns of plain text, without the intervals."""
    rows = [HEADER, *([e if isinstance(e, str) else e[0] for e in row] for row in figures(tour))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = ("  ".join(e.ljust(w) for e, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _real(tour: Tour, row: int) -> str:
    """One real image and what was made of it."""
    label, before = int(tour.labels[row]), bool(tour.right[row])
    cells = [_shown(tour, tour.original, row, "real", "right" if before else "wrong", before)]
    for shown, name in ((tour.pgd, "PGD"), (tour.gat, "GAT")):
        fooled = int(shown.classifier[row]) != label
        words = ("fooled" if fooled else "not fooled") if before else "wrong before"
        cells.append(_shown(tour, shown, row, name, words, fooled if before else None))
    right = int(tour.gap.classifier[row]) == label
    cells.append(_shown(tour, tour.gap, row, "GAP", "right" if right else "wrong", right))
    return strip(f"{tour.classes[label]}, image {tour.image_ids[row]}", cells)


def _drawn(tour: Tour, row: int) -> str:
    """One image drawn from nothing."""
    asked = int(tour.asked[row])
    fooled = int(tour.gas.classifier[row]) != asked
    words = "fooled" if fooled else "not fooled"
    cell = _shown(tour, tour.gas, row, tour.classes[asked], words, fooled)
    return strip("", [cell])


def _shown(tour: Tour, shown: Shown, row: int, name: str, outcome: str, good: bool | None) -> Cell:
    classifier, judge = _said(tour, shown.classifier[row]), _said(tour, shown.judge[row])
    alt = f"{name}; the classifier says {classifier}, the judge says {judge}"
    lines = (("says", classifier), ("judge", judge))
    return Cell(shown.images[row], name, alt, lines, outcome, good)


def _said(tour: Tour, label: Tensor) -> str:
    return tour.classes[int(label)]


def _about_real(tour: Tour) -> tuple[str, str]:
    return (
        f"{len(tour.labels)} images, {tour.source}: as they are; with PGD's noise; transformed by "
        "GAT; and PGD's image purified by GAP. All of them are here, the failures too. Below "
        "each stands what the classifier says, and what the judge does.",
        "A tick says that a step did what it set out to do: PGD and GAT fool the classifier, GAP "
        "makes it right. A cross says that it did not, a dash that the classifier was wrong "
        "before.",
    )


def _about_drawn(tour: Tour) -> str:
    seen, fooled = tour.gas.judge == tour.asked, tour.gas.classifier != tour.asked
    both = int(torch.logical_and(seen, fooled).sum())
    aimed = tour.aimed >= 0
    wanted = int((aimed & (tour.gas.classifier == tour.aimed)).sum())
    return (
        f"{len(tour.asked)} images drawn from pure noise, each asked to show the class in bold and "
        f"to be taken for another. The classifier says the very class it was led to in {wanted} of "
        f"{int(aimed.sum())}; {both} of {len(tour.asked)} fool it while the judge sees the class "
        "asked for."
    )


def _terms(tour: Tour) -> list[tuple[str, str]]:
    return [
        ("classifier", f"{tour.classifier}: the network whose errors are looked for."),
        (
            "judge",
            f"{tour.judge}: another network, whose weights are not the classifier's. It guided "
            "nothing and nothing was aimed at it; it stands in for a person who says what a "
            "picture shows, as far as it is right on the real images.",
        ),
        (
            "PGD",
            "projected gradient ascent on the classifier's loss, the usual attack: "
            f"{tour.pgd_steps} steps, no colour value moved by more than {tour.ball}.",
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
