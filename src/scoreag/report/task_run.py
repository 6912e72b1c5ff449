"""The page of one run: its figures with their denominators, its images, the failures too."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from scoreag.io.filesystem import write_text
from scoreag.report.html import (
    TableCell,
    definition_list,
    figure,
    proportions_table,
    render_page,
    section,
    table,
)
from scoreag.report.svg_plots import Curve, plot_curves
from scoreag.report.task_images import render_groups
from scoreag.runs import records as lines
from scoreag.runs import run_dir as place
from scoreag.runs.headline import ATTACK_SUCCESS, PRESERVED_SUCCESS, judge_accuracy, judge_name
from scoreag.runs.manifest import flatten
from scoreag.runs.records import Row
from scoreag.runs.summary import summarize_rows as figures_of
from scoreag.stats.proportion import Proportion

TITLES = {
    "synthesize": "Images from nothing that fool a classifier",
    "transform": "Real images, changed until a classifier errs",
    "purify": "Images, purified",
}
RATE_LABELS = {
    "clean_accuracy": "right before",
    "fooled_and_shown": "fooled, and the judge still sees the class",
    "success": "fooled, by the saved 8-bit image",
    "targeted_success": "taken for the wanted class, saved image",
    "success_float": "fooled, by the image before rounding",
    "judge_agreement": "the judge sees the class, saved image",
    "judge_agreement_before": "the judge is right on the images as they are",
    "accuracy_before": "right before purification",
    "accuracy_after": "right after it",
}
NORM_LABELS = {
    "l0": "l0: pixels that changed",
    "l1": "l1: the sum of all changes",
    "l2": "l2: the Euclidean length of the change",
    "linf": "linf: the largest change of a colour value",
}
COST_LABELS = {
    "nfe": "score-model calls",
    "restarts": "restarts",
    "guidance_skipped": "calls without guidance",
}
FOOTER_KEYS = (
    "versions.scoreag",
    "versions.torch",
    "machine.processor",
    "machine.cores",
    "started",
)


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
    def rates(self) -> dict[str, Proportion]:
        """The shares of summary.json by name."""
        shares = self.summary["rates"].items()
        return {name: Proportion(r["count"], r["total"], r["of"]) for name, r in shares}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder; the file."""
    file = folder / "report.html"
    write_text(file, render_run_page(folder))
    return file


def render_run_page(folder: Path) -> str:
    """The page of the run in ``folder``, as HTML."""
    run = read_run(folder)
    body = [
        section("In figures", *_proportions_table(run), *_perturbation_tables(run)),
        *render_groups(run.folder, run.task, run.manifest, run.rows),
        section("What it cost", _cost_table(run)),
        section("How it came about", definition_list(_config_entries(run))),
    ]
    return render_page(
        TITLES[run.task], [summary_sentence(run), *collect_caveats(run)], body, [_footer(run)]
    )


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises:
        ValueError: there is none, or it was interrupted; says what to do.
    """
    manifest = place.read_manifest(folder)
    if (task := str(manifest.get("task"))) not in TITLES:
        made = "a training" if task.startswith("train") else f"a run of {task!r}"
        raise ValueError(f"{folder} holds {made}, which has no report; see the files in it")
    file = folder / "summary.json"
    again = "give the command of the run again"
    if not file.is_file():
        raise ValueError(f"{folder} has no summary.json, the run is not finished; {again}")
    place.refuse_links(folder)
    rows = tuple(lines.read_complete_rows(folder))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {again}") from error
    if found != figures_of(task, rows, manifest):
        raise ValueError(f"{file} does not say what the rows of the run say; {again}")
    return Run(folder, manifest, found, rows)


def summary_sentence(run: Run) -> str:
    """The outcome, for someone who reads nothing else."""
    name = run.manifest.get("models", {}).get("classifier", {}).get("name", "The classifier")
    found, count = run.rates, len(run.rows)
    if not found:
        return f"{count} images were purified; what they show was not asked."
    if run.task == "purify":
        return (
            f"{name} gets {_format_count(found['accuracy_after'])} images right after purification, "
            f"and {_format_count(found['accuracy_before'])} before it."
        )
    before = (
        "" if run.task == "synthesize" else f"gets {_format_count(found['clean_accuracy'])} images "
    )
    before = before and f"{before}right as they are, and "
    rate, fooled = found.get(PRESERVED_SUCCESS), found[ATTACK_SUCCESS]
    made = f"{fooled.total} images drawn from noise"
    if run.task == "transform":
        made = f"those {fooled.total} after the transformation"
    if rate is None:
        return (
            f"{name} {before}errs on {fooled.count} of {made}; whether they still show their class "
            "was not checked: give --reference-classifier."
        )
    low, high = (f"{100 * end:.0f}" for end in rate.interval)
    return (
        f"{name} {before}is fooled by {rate.count} of {made} that still show their class to the "
        f"judge {judge_name(run.manifest)} (95 %, interval {low}-{high} %), and errs on "
        f"{fooled.count} whatever they show."
    )


def collect_caveats(run: Run) -> list[str]:
    """How good the judge is, what makes the headline doubtful, and what to try."""
    told = []
    if PRESERVED_SUCCESS in run.rates:
        right = judge_accuracy(run.rates, run.manifest)
        quality = "is not known" if right is None else f"is {right}"
        told = [f"The judge {judge_name(run.manifest)}: right on untouched images {quality}."]
    more = [("Read this first", "warnings"), ("To try", "hints")]
    return told + [f"{say}: {text}." for say, key in more for text in run.summary.get(key, ())]


def _format_count(proportion: Proportion) -> str:
    return f"{proportion.count} of {proportion.total}"


def _proportions_table(run: Run) -> list[str]:
    if not run.rates:
        return []
    place_of = {name: place for place, name in enumerate(RATE_LABELS)}
    order = sorted(run.rates, key=lambda name: place_of.get(_base_name(name), len(RATE_LABELS)))
    named = [(_rate_label(name), run.rates[name]) for name in order]
    return [proportions_table("Shares of the images, with 95 % intervals (Wilson).", named)]


def _base_name(rate: str) -> str:
    return rate.removesuffix("_without_restarts")


def _rate_label(rate: str) -> str:
    words = RATE_LABELS.get(_base_name(rate), _base_name(rate).replace("_", " "))
    return words if _base_name(rate) == rate else f"{words}, first try only"


def _perturbation_tables(run: Run) -> list[str]:
    """How far the images moved: medians, and the whole distribution of the largest change."""
    medians = run.summary["medians"]
    if not medians:
        return []
    caption = "How far the saved images are from the originals; colour values lie in [0, 1]."
    rows = [(NORM_LABELS[norm], *_median_cells(norm, found)) for norm, found in medians.items()]
    return [table(caption, ("", "median", "interval"), rows), _linf_plot(run)]


def _median_cells(norm: str, entry: Mapping[str, Any]) -> tuple[TableCell, TableCell]:
    def number(value: float) -> str:
        return f"{255 * value:.0f}/255" if norm == "linf" else f"{value:.4g}"

    middle = (number(entry["value"]), f"of {entry['total']} images")
    if "low" not in entry:
        return middle, str(entry.get("interval", ""))
    inside = f"{number(entry['low'])} to {number(entry['high'])}"
    return middle, (inside, str(entry.get("interval", "")))


def _linf_plot(run: Run) -> str:
    """The share of images whose largest change is at most x."""
    largest = sorted(
        round(255 * row["distances"]["linf"]) for row in run.rows if "distances" in row
    )
    reached = [(i + 1) / len(largest) for i in range(len(largest))]
    line = Curve("images", [0, *largest], [0, *reached])
    alt = f"Share of images by largest change: from {largest[0]} to {largest[-1]} of 255."
    labels = "largest change of a colour value, in 1/255", "share of images"
    svg = plot_curves([line], *labels, alt=alt, steps=True, mark=(8, "8/255, a usual bound"))
    return figure(svg, "The share of images in which no colour value moved by more than x.")


def _cost_table(run: Run) -> str:
    rows = [
        (words, f"{run.summary[name]['sum']:,}", f"{run.summary[name]['per_image']:g}")
        for name, words in COST_LABELS.items()
        if name in run.summary
    ]
    return table(f"Over {len(run.rows)} images.", ("", "together", "an image"), rows)


def _config_entries(run: Run) -> list[tuple[str, str]]:
    """What determined the images, by the names of manifest.json."""
    outside = (
        "versions", "machine", "started", "finished", "format", "images", "image_ids", "classes",
        "probe", "seal",
    )  # fmt: skip
    kept = {name: value for name, value in run.manifest.items() if name not in outside}
    known = [(name, value) for name, value in flatten(kept) if value not in (None, {}, [])]
    return [(name, shorten(str(value), 200, placeholder=" ...")) for name, value in known]


def _footer(run: Run) -> str:
    known = dict(flatten(run.manifest))
    return ", ".join(
        f"{name.split('.')[-1]} {known[name]}" for name in FOOTER_KEYS if known.get(name)
    )
