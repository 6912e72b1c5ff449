"""The page of a task's run: rates with denominators, images of all outcomes, and the cost."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from scoreag.io.filesystem import write_text
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Fields, Row, iter_complete_rows, read_picture
from scoreag.io.run_dir import RunFiles, refuse_links
from scoreag.methods.result import ROW_FIELDS, TASK_FILES
from scoreag.methods.summary import judge_accuracy, judge_name, summarize_rows
from scoreag.methods.tally import ATTACK_SUCCESS, PRESERVED_SUCCESS
from scoreag.report.figure_export import write_figures
from scoreag.report.html import (
    Chart,
    Curve,
    Strip,
    describe_environment,
    list_config,
    plot_curves,
    render_page,
    strip_of_row,
)
from scoreag.report.provenance import describe_reproduction, shorten_models
from scoreag.report.run_tables import task_tables
from scoreag.report.table_export import write_tables
from scoreag.stats.proportion import Proportion

TITLES = {
    "synthesize": "Adversarial synthesis (GAS)",
    "transform": "Adversarial transformation (GAT)",
    "purify": "Purification (GAP)",
    "attack": "Adversarial attack",
}
OUTCOMES: dict[str, tuple[str, bool | None]] = {  # the text below an image; whether it is good
    "not_repaired": ("misclassified", False),
    "not_fooled": ("not fooled", False),
    "label_lost": ("label not preserved", False),
    "unjudged": ("", None),
    "repaired": ("correct", True),
    "fooled": ("fooled", True),
    "wrong_before": ("misclassified before", None),
}
TILES = {  # rates at a glance, by task
    "synthesize": {
        PRESERVED_SUCCESS: "attack success, label preserved",
        ATTACK_SUCCESS: "attack success",
        "targeted_success": "targeted success",
        "judge_agreement": "label preserved",
    },
    "transform": {
        "clean_accuracy": "clean accuracy",
        PRESERVED_SUCCESS: "attack success, label preserved",
        ATTACK_SUCCESS: "attack success",
        "judge_agreement": "label preserved",
    },
    "purify": {
        "accuracy_before": "accuracy before purification",
        "accuracy_after": "accuracy after purification",
    },
}
GLOSSARY = {
    "synthesize": ("GAS", "generative adversarial synthesis: an image of a class, sampled from "
                   "noise, that the classifier takes for another."),
    "transform": ("GAT", "generative adversarial transformation: an image sampled again near a "
                  "given one, so that the classifier errs. The change has no bound."),
    "purify": ("GAP", "generative adversarial purification: the most natural image near a given "
               "one. It knows neither the attack nor the class."),
}  # fmt: skip
TERMS = (
    ("attack success", "the classifier does not predict the label of the saved 8-bit image. Of a "
     "transformation only images count that it classified correctly before."),
    ("reference classifier", "another classifier, asked only at the end, whether an image still "
     "shows its class (label preserved). It stands in for a person, as far as it is correct on "
     "untouched images."),
    ("probability", "the softmax of the classifier's logits; of the likeliest classes, of the "
     "label and of the target."),
    ("difference", "the result minus the original around gray, amplified."),
    ("NFE", "number of function evaluations: calls of the denoiser."),
)  # fmt: skip
IMAGES_PER_OUTCOME = 24  # shown; a page of thousands would be slow to open


@dataclass
class Sample:
    """What the page shows of the rows of a run, gathered row by row.

    Args:
        counts: images of each outcome.
        first: the rows of the first images of each outcome.
        linf: how many images have each largest change, in 1/255.
    """

    task: str
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in OUTCOMES})
    linf: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> Row:
        """Count a row; the row."""
        outcome = classify_outcome(self.task, row)
        self.counts[outcome] += 1
        if len(self.first[outcome]) < IMAGES_PER_OUTCOME:
            self.first[outcome].append(row)
        if "distances" in row:
            self.linf[round(255 * row["distances"]["linf"])] += 1
        return row


@dataclass(frozen=True)
class Run:
    """A finished run in its folder."""

    folder: Path
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]
    sample: Sample

    @property
    def task(self) -> str:
        """synthesize, transform or purify."""
        return str(self.summary["task"])

    @property
    def rates(self) -> dict[str, Proportion]:
        """The rates of summary.json by name."""
        rates = self.summary["rates"].items()
        return {name: Proportion(r["count"], r["total"], r["of"]) for name, r in rates}


def write_report(folder: Path) -> Path:
    """Write ``report.html``, the tables and the figures into a run's folder; the page's path."""
    run = read_run(folder)
    chart = _plot_linf(run)
    write_tables(folder, task_tables(run.summary))
    write_figures(folder, {"linf": chart})
    file = folder / "report.html"
    write_text(file, _render(run, chart))
    return file


def render_run_page(folder: Path) -> str:
    """The page of the run in ``folder``."""
    run = read_run(folder)
    return _render(run, _plot_linf(run))


def _render(run: Run, linf_chart: Chart | None) -> str:
    return render_page(
        "task_run",
        shorten_models(run.manifest),
        title=TITLES[run.task],
        lead=[summary_sentence(run), *collect_caveats(run)],
        summary=run.summary,
        tiles=[
            (words, run.summary["rates"][name])
            for name, words in TILES.get(run.task, TILES["transform"]).items()
            if name in run.summary["rates"]
        ],
        glossary=(*(pair for task, pair in GLOSSARY.items() if task == run.task), *TERMS),
        linf_chart=linf_chart,
        groups=_outcome_groups(run),
        config=list_config(run.manifest),
        reproduction=describe_reproduction(run.manifest),
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
    sample = Sample(task)
    summary = read_summary(
        folder, TASK_FILES, ROW_FIELDS,
        lambda rows: summarize_rows(task, map(sample.add, rows), manifest),
    )  # fmt: skip
    return Run(folder, manifest, summary, sample)


def read_summary(
    folder: Path, files: RunFiles, fields: Fields, summarize: Callable[[Iterable[Row]], Any]
) -> dict[str, Any]:
    """The summary.json of a finished run, which must agree with its rows.

    Args:
        summarize: the summary of the rows, which it takes once, one after the other.

    Raises:
        ValueError: they do not, or the run is not finished; says what to do.
    """
    file = folder / "summary.json"
    remedy = "give the command of the run again"
    if not file.is_file():
        raise ValueError(f"{folder} has no summary.json, the run is not finished; {remedy}")
    refuse_links(folder, files)
    found = summarize(iter_complete_rows(folder, fields))
    try:
        summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {remedy}") from error
    if summary != found:
        raise ValueError(f"{file} does not say what the rows of the run say; {remedy}")
    return summary


def summary_sentence(run: Run) -> str:
    """The outcome in one sentence."""
    name = run.manifest.get("models", {}).get("classifier", {}).get("name", "The classifier")
    rates = run.rates
    if run.task == "synthesize" and ATTACK_SUCCESS not in rates:
        seen = rates.get("judge_agreement")
        judged = f"; {judge_name(run.manifest)} sees the class in {_count_of(seen)}" if seen else ""
        return f"{run.summary['images']} images were sampled without an attack{judged}."
    if not rates:
        return f"{run.summary['images']} images were purified; no classifier was given."
    if run.task == "purify":
        after, before = (_count_of(rates[f"accuracy_{when}"]) for when in ("after", "before"))
        return f"{name} classifies {after} images correctly after purification, {before} before."
    preserved, fooled = rates.get(PRESERVED_SUCCESS), rates[ATTACK_SUCCESS]
    start, images = f"{name} misclassifies", f"{fooled.total} images generated from noise"
    if run.task in ("transform", "attack"):
        clean = _count_of(rates["clean_accuracy"])
        start = f"{name} classifies {clean} clean images correctly. It misclassifies"
        what = "transformation" if run.task == "transform" else "attack"
        images = f"these {fooled.total} after the {what}"
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
    """The accuracy of the reference classifier, and the run's warnings and hints."""
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


def _plot_linf(run: Run) -> Chart | None:
    """The empirical distribution of the largest change; None where there are no originals."""
    if not run.summary["medians"]:
        return None
    largest = sorted(run.sample.linf)
    counts = accumulate(run.sample.linf[change] for change in largest)
    shares = [count / run.sample.linf.total() for count in counts]
    svg = plot_curves(
        [Curve("images", [0, *largest], [0, *shares])],
        "largest change of a color value, in 1/255",
        "fraction of images",
        alt=f"Fraction of images by largest change: from {largest[0]} to {largest[-1]} of 255.",
        steps=True,
        mark=(8, "8/255, a common bound"),
    )
    return Chart(svg, "Fraction of images in which no color value moved by more than x.")


def classify_outcome(task: str, row: Row) -> str:
    """The key in ``OUTCOMES`` of an image, by the predictions for the saved 8-bit picture."""
    if row["success"] is None:
        return "unjudged"
    if task == "purify":
        return "not_repaired" if row["success"] else "repaired"
    if task in ("transform", "attack") and row["predictions"]["before"] != row["label"]:
        return "wrong_before"
    if not row["success"]:
        return "not_fooled"
    return "label_lost" if "judge" in row and row["judge"]["saved"] != row["label"] else "fooled"


def _outcome_groups(run: Run) -> list[tuple[str, int, list[Strip]]]:
    """For each outcome, failures first: the number of images, and strips of the first ones."""
    sample = run.sample
    return [
        (outcome, sample.counts[outcome], [_make_strip(run, outcome, row) for row in rows])
        for outcome, rows in sample.first.items()
        if rows
    ]


def _make_strip(run: Run, outcome: str, row: Row) -> Strip:
    judges = [row["judge"]] if "judge" in row else []
    classes = run.manifest.get("classes", ())

    def read(prefix: str) -> Any:
        return read_picture(run.folder, row, prefix)

    return strip_of_row(row, read, classes, judges, OUTCOMES[outcome])
