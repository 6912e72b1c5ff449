"""The page of one run: rates with their denominators, all outcomes as images, and its cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import write_text
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row, read_complete_rows, read_picture
from scoreag.io.run_dir import refuse_links
from scoreag.methods.records import ROW_FIELDS, TASK_FILES
from scoreag.methods.summary import (
    ATTACK_SUCCESS,
    PRESERVED_SUCCESS,
    judge_accuracy,
    judge_name,
    summarize_rows,
)
from scoreag.report.html import (
    TableCell,
    describe_environment,
    list_config,
    render_page,
)
from scoreag.report.image_grid import Strip, strip_of_row
from scoreag.report.svg_plots import Chart, Curve, plot_curves
from scoreag.stats.proportion import Proportion

TITLES = {
    "synthesize": "Adversarial synthesis (GAS)",
    "transform": "Adversarial transformation (GAT)",
    "purify": "Purification (GAP)",
}
RATE_LABELS = {
    "clean_accuracy": "clean accuracy",
    "fooled_and_shown": "attack success (8-bit) with the label preserved",
    "success": "attack success (8-bit)",
    "targeted_success": "targeted success (8-bit)",
    "success_float": "attack success before rounding to 8 bits",
    "judge_agreement": "label preserved, by the reference classifier (8-bit)",
    "judge_agreement_before": "clean accuracy of the reference classifier",
    "accuracy_before": "accuracy before purification",
    "accuracy_after": "accuracy after purification",
}
NORM_LABELS = {
    "l0": "l0: number of changed pixels",
    "l1": "l1: sum of absolute changes",
    "l2": "l2: Euclidean length of the change",
    "linf": "linf: largest change of a color value",
}
COST_LABELS = {"nfe": "NFE", "restarts": "restarts", "guidance_skipped": "unguided NFE"}
IMAGES_PER_OUTCOME = 24  # shown; a page of thousands would be slow to open


@dataclass(frozen=True)
class Run:
    """What a run's folder says of itself."""

    folder: Path
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def task(self) -> str:
        """synthesize, transform or purify."""
        return str(self.summary["task"])

    @property
    def classes(self) -> Sequence[str]:
        return self.manifest.get("classes", ())

    @property
    def rates(self) -> dict[str, Proportion]:
        """The rates of summary.json by name."""
        rates = self.summary["rates"].items()
        return {name: Proportion(r["count"], r["total"], r["of"]) for name, r in rates}


@dataclass(frozen=True)
class Outcome:
    """What happened to an image: the heading of its section, and the mark below the image."""

    title: str
    description: str
    mark: str
    good: bool | None


NOT_REPAIRED = Outcome(
    "Failures", "The classifier is wrong after purification.", "misclassified", False
)
NOT_FOOLED = Outcome("Failures", "The classifier still predicts the label.", "not fooled", False)
LABEL_LOST = Outcome(
    "Fooled, label not preserved",
    "The classifier is wrong, but so is the reference classifier: no success.",
    "label not preserved", False,
)  # fmt: skip
UNJUDGED = Outcome("Images", "No classifier given.", "", None)
REPAIRED = Outcome("Successes", "The classifier is right after purification.", "correct", True)
FOOLED = Outcome("Successes", "The classifier predicts another class.", "fooled", True)
WRONG_BEFORE = Outcome(
    "Misclassified before the attack",
    "The classifier is wrong on the original; these images are in no denominator of success.",
    "misclassified before", None,
)  # fmt: skip
OUTCOMES = (NOT_REPAIRED, NOT_FOOLED, LABEL_LOST, UNJUDGED, REPAIRED, FOOLED, WRONG_BEFORE)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder; its path."""
    file = folder / "report.html"
    write_text(file, render_run_page(folder))
    return file


def render_run_page(folder: Path) -> str:
    """The page of the run in ``folder``."""
    run = read_run(folder)
    return render_page(
        "task_run",
        title=TITLES[run.task],
        summary=[summary_sentence(run), *collect_caveats(run)],
        rates=_labeled_rates(run),
        perturbations=[_median_row(*item) for item in run.summary["medians"].items()],
        linf_chart=_plot_linf(run) if run.summary["medians"] else None,
        groups=_outcome_groups(run),
        n_images=len(run.rows),
        costs=[
            (label, f"{run.summary[name]['sum']:,}", f"{run.summary[name]['per_image']:g}")
            for name, label in COST_LABELS.items()
            if name in run.summary
        ],
        config=list_config(run.manifest),
        footer=[describe_environment(run.manifest)],
    )


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises:
        ValueError: there is none, or it was interrupted; says what to do.
    """
    manifest = read_manifest(folder)
    if (task := str(manifest.get("task"))) not in TITLES:
        kind = "a training" if task.startswith("train") else f"a run of {task!r}"
        raise ValueError(f"{folder} holds {kind}, which has no report; see the files in it")
    file = folder / "summary.json"
    remedy = "give the command of the run again"
    if not file.is_file():
        raise ValueError(f"{folder} has no summary.json, the run is not finished; {remedy}")
    refuse_links(folder, TASK_FILES)
    rows = tuple(read_complete_rows(folder, ROW_FIELDS))
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {remedy}") from error
    if summary != summarize_rows(task, rows, manifest):
        raise ValueError(f"{file} does not say what the rows of the run say; {remedy}")
    return Run(folder, manifest, summary, rows)


def summary_sentence(run: Run) -> str:
    """The outcome, for someone who reads nothing else."""
    name = run.manifest.get("models", {}).get("classifier", {}).get("name", "The classifier")
    rates = run.rates
    if not rates:
        return f"{len(run.rows)} images were purified; no classifier was given."
    if run.task == "purify":
        after, before = (_count_of(rates[f"accuracy_{when}"]) for when in ("after", "before"))
        return f"{name} classifies {after} images correctly after purification, {before} before."
    preserved, fooled = rates.get(PRESERVED_SUCCESS), rates[ATTACK_SUCCESS]
    start, images = f"{name} misclassifies", f"{fooled.total} images generated from noise"
    if run.task == "transform":
        clean = _count_of(rates["clean_accuracy"])
        start = f"{name} classifies {clean} clean images correctly. It misclassifies"
        images = f"these {fooled.total} after the transformation"
    if preserved is None:
        return (
            f"{start} {fooled.count} of {images}; label preservation was not checked: give "
            "--reference-classifier."
        )
    low, high = (f"{100 * end:.0f}" for end in preserved.interval)
    return (
        f"{start} {preserved.count} of {images} with the label preserved according to "
        f"{judge_name(run.manifest)} (95 % interval {low} to {high} %), "
        f"and {fooled.count} in total."
    )


def collect_caveats(run: Run) -> list[str]:
    """How good the reference classifier is, what puts the headline in doubt, and what to try."""
    caveats = []
    if PRESERVED_SUCCESS in run.rates:
        accuracy = judge_accuracy(run.rates, run.manifest) or "not known"
        caveats = [f"Reference classifier {judge_name(run.manifest)}: clean accuracy {accuracy}."]
    kinds = {"warnings": "Warning", "hints": "To try"}
    return caveats + [
        f"{word}: {text}." for kind, word in kinds.items() for text in run.summary.get(kind, ())
    ]


def _count_of(proportion: Proportion) -> str:
    return f"{proportion.count} of {proportion.total}"


def _labeled_rates(run: Run) -> list[tuple[str, Proportion]]:
    variants = {"": "", "_without_restarts": ", without restarts"}
    return [
        (f"{label}{words}", run.rates[f"{name}{suffix}"])
        for name, label in RATE_LABELS.items()
        for suffix, words in variants.items()
        if f"{name}{suffix}" in run.rates
    ]


def _median_row(norm: str, entry: Mapping[str, Any]) -> tuple[str, TableCell, TableCell]:
    def number(value: float) -> str:
        return f"{255 * value:.0f}/255" if norm == "linf" else f"{value:.4g}"

    median = (number(entry["value"]), f"of {entry['total']} images")
    interval: TableCell = str(entry.get("interval", ""))
    if "low" in entry:
        interval = (f"{number(entry['low'])} to {number(entry['high'])}", str(interval))
    return NORM_LABELS[norm], median, interval


def _plot_linf(run: Run) -> Chart:
    """The empirical distribution of the largest change."""
    moved = [row["distances"]["linf"] for row in run.rows if "distances" in row]
    largest = sorted(round(255 * distance) for distance in moved)
    shares = [(i + 1) / len(largest) for i in range(len(largest))]
    svg = plot_curves(
        [Curve("images", [0, *largest], [0, *shares])],
        "largest change of a color value, in 1/255",
        "fraction of images",
        alt=f"Fraction of images by largest change: from {largest[0]} to {largest[-1]} of 255.",
        steps=True,
        mark=(8, "8/255, a common bound"),
    )
    return Chart(svg, "Fraction of images in which no color value moved by more than x.")


def classify_outcome(task: str, row: Row) -> Outcome:
    """What happened to an image, by the predictions for the saved 8-bit picture."""
    if row["success"] is None:
        return UNJUDGED
    if task == "purify":
        return NOT_REPAIRED if row["success"] else REPAIRED
    if task == "transform" and row["predictions"]["before"] != row["label"]:
        return WRONG_BEFORE
    if not row["success"]:
        return NOT_FOOLED
    return LABEL_LOST if "judge" in row and row["judge"]["saved"] != row["label"] else FOOLED


def _outcome_groups(run: Run) -> list[dict[str, Any]]:
    """For each outcome that occurs, failures first: its text and its first images."""
    groups = []
    for outcome in OUTCOMES:
        rows = [row for row in run.rows if classify_outcome(run.task, row) is outcome]
        shown = rows[:IMAGES_PER_OUTCOME]
        count = f"The first {len(shown)} of" if len(shown) < len(rows) else "All"
        text = f"{outcome.description} {count} {len(rows)}."
        strips = [_make_strip(run, outcome, row) for row in shown]
        if rows:
            groups.append({"title": outcome.title, "description": text, "strips": strips})
    return groups


def _make_strip(run: Run, outcome: Outcome, row: Row) -> Strip:
    return strip_of_row(
        row,
        lambda prefix: read_picture(run.folder, row, prefix),
        run.classes,
        [row["judge"]] if "judge" in row else [],
        (outcome.mark, outcome.good),
    )
