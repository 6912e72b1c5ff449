"""The page of the demo, a tour of four stops, and its text for the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from scoreag.report.demo_counts import (
    HEADER,
    count_correct,
    format_count,
    measure_images,
    summary_rows,
)
from scoreag.report.demo_images import DemoReport, PredictedImages
from scoreag.report.demo_sentences import (
    describe_attacked,
    describe_generated,
    describe_purified,
    summary_sentences,
)
from scoreag.report.demo_strips import attacked_strips, generated_strips, purified_strips
from scoreag.report.html import Strip, TableCell, render_page
from scoreag.report.provenance import describe_reproduction

CORRECT = ("images", "classifier correct", "reference correct")
DEFENDED = ("attacker", "correct before GAP", "correct after GAP", "reference correct after GAP")
WIDTH = 96  # of the text in a terminal


@dataclass(frozen=True)
class Stop:
    """A question of the tour, the counted answer, and images.

    Args:
        note: what the images are, and which are shown.
        table: caption, header and rows; None where the sentences say enough.
        min_width: of a strip of images, in rem.
    """

    title: str
    answer: str
    note: str
    strips: Sequence[Strip]
    min_width: int
    table: tuple[str, Sequence[str], list[list[TableCell]]] | None = None


def list_stops(report: DemoReport) -> list[Stop]:
    """The stops of the tour."""
    n_real, n_first = len(report.plain.labels), len(report.robust.labels)
    n_purified = len(report.purified.white_box.images)
    return [
        Stop(
            "Images from nothing: do they fool a classifier?",
            describe_generated(report),
            f"All {len(report.generated.labels)} pairs, below the class asked for. Both images of "
            "a pair come from the same noise; GAS adds the pull of the classifier.",
            generated_strips(report),
            12,
            _compare_generated(report),
        ),
        Stop(
            "Given images: what fools the classifier?",
            describe_attacked(report, report.plain, f"{n_real} real images"),
            f"All {n_real} images, {report.source}: as they are, with PGD's noise, and "
            "transformed by GAT.",
            attacked_strips(report, report.plain),
            19,
        ),
        Stop(
            "A robust classifier: does it resist?",
            describe_attacked(report, report.robust, _count_images(n_first, n_real)),
            f"{report.robust.name} was trained on attacked images. The radius of PGD is the same.",
            attacked_strips(report, report.robust),
            19,
        ),
        Stop(
            "Purification: whom does it stop?",
            describe_purified(report),
            f"Shown are {_count_images(n_purified, n_real)}. The attack through GAP has "
            f"{report.purified.steps} steps, and GAP is judged by draws that it did not see.",
            purified_strips(report),
            24,
            _compare_purified(report),
        ),
    ]


def render_demo_page(report: DemoReport) -> str:
    """The report as one HTML file."""
    return render_page(
        "demo",
        title="How does this classifier fail?",
        lead=summary_sentences(report),
        report=report,
        stops=list_stops(report),
        table=(HEADER, summary_rows(report)),
        reproduction=describe_reproduction(report.provenance),
        footer=report.footer,
    )


def format_demo_text(report: DemoReport) -> str:
    """The stops, and the table in columns of plain text, without the intervals."""
    indent = " " * 3
    stops = [
        f"{number}. {stop.title}\n"
        f"{fill(stop.answer, WIDTH, initial_indent=indent, subsequent_indent=indent)}"
        for number, stop in enumerate(list_stops(report), 1)
    ]
    return "\n\n".join([*stops, format_counts(report)])


def format_counts(report: DemoReport) -> str:
    """All counts in columns of plain text, each row with its classifier."""
    rows = [
        [one.name, one.classifier, *(e if isinstance(e, str) else e[0] for e in row[1:])]
        for one, row in zip(measure_images(report), summary_rows(report), strict=True)
    ]
    columns = list(zip((HEADER[0], "classifier", *HEADER[1:]), *rows, strict=True))
    padded = [[e.ljust(max(map(len, column))) for e in column] for column in columns]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def _compare_generated(report: DemoReport) -> tuple[str, Sequence[str], list[list[TableCell]]]:
    rows: list[list[TableCell]] = [
        [one.name, format_count(one.correct), format_count(one.judge_correct)]
        for one in measure_images(report)[:2]
    ]
    return "Correct: the class asked for is predicted.", CORRECT, rows


def _compare_purified(report: DemoReport) -> tuple[str, Sequence[str], list[list[TableCell]]]:
    """The same images of three attackers, before and after GAP."""
    found, plain = report.purified, report.plain
    count = len(found.white_box.images)
    labels = plain.labels[:count]
    attackers = (
        ("none", plain.original, found.clean),
        ("does not know of GAP", plain.pgd, found.blind),
        ("knows GAP", found.white_box, found.white_box_purified),
    )

    def format_correct(version: PredictedImages) -> TableCell:
        return format_count(count_correct(version.first(count), labels))

    rows: list[list[TableCell]] = []
    for name, before, after in attackers:
        seen = PredictedImages(after.images, after.judge_predictions, after.judge_predictions)
        rows.append([name, format_correct(before), format_correct(after), format_correct(seen)])
    return f"The same {count} images of each attacker.", DEFENDED, rows


def _count_images(count: int, total: int) -> str:
    whole = f"{total} real images"
    return whole if count == total else f"the first {count} of the {whole}"
