"""The page of one run: its figures with their denominators, its images, the failures too."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from scoreag.files import write_text
from scoreag.metrics.accuracy import Rate
from scoreag.report.page import Entry, figure, page, rates, section, table, terms
from scoreag.report.plots import Curve, curves
from scoreag.report.run_images import groups
from scoreag.runs import folder as place
from scoreag.runs import rows as lines
from scoreag.runs.headline import FOOLED, SHOWN, judge_name, judge_quality
from scoreag.runs.manifest import leaves
from scoreag.runs.rows import Row
from scoreag.runs.summary import summary as figures_of

TITLES = {
    "synthesize": "Images from nothing that fool a classifier",
    "transform": "Real images, changed until a classifier errs",
    "purify": "Images, purified",
}
NAMES = {
    "clean_accuracy": "right before",
    "fooled_and_shown": "fooled, and the judge still sees the class",
    "success_8bit": "fooled, by the saved 8-bit image",
    "as_wanted": "taken for the wanted class, saved image",
    "success": "fooled, by the image before rounding",
    "judge_agreement": "the judge sees the class, saved image",
    "judge_agreement_before": "the judge is right on the images as they are",
    "accuracy_before": "right before purification",
    "accuracy_after": "right after it",
}
NORMS = {
    "l0": "l0: pixels that changed",
    "l1": "l1: the sum of all changes",
    "l2": "l2: the Euclidean length of the change",
    "linf": "linf: the largest change of a colour value",
}
COSTS = {"calls": "score-model calls", "retries": "retries", "rests": "calls without guidance"}
FOOT = ("versions.scoreag", "versions.torch", "machine.processor", "machine.cores", "started")


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
    def rates(self) -> dict[str, Rate]:
        """The shares of summary.json by name."""
        shares = self.summary["rates"].items()
        return {name: Rate(r["count"], r["total"], r["of"]) for name, r in shares}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder; the file."""
    file = folder / "report.html"
    write_text(file, run_page(folder))
    return file


def run_page(folder: Path) -> str:
    """The page of the run in ``folder``, as HTML."""
    run = read_run(folder)
    body = [
        section("In figures", *_shares(run), *_changes(run)),
        *groups(run.folder, run.task, run.manifest, run.rows),
        section("What it cost", _cost(run)),
        section("How it came about", terms(_settings(run))),
    ]
    return page(TITLES[run.task], [sentence(run), *caveats(run)], body, [_foot(run)])


def read_run(folder: Path) -> Run:
    """The run in ``folder``.

    Raises:
        ValueError: there is none, or it was interrupted; says what to do.
    """
    manifest = place.read(folder)
    if (task := str(manifest.get("task"))) not in TITLES:
        made = "a training" if task.startswith("train") else f"a run of {task!r}"
        raise ValueError(f"{folder} holds {made}, which has no report; see the files in it")
    file = folder / "summary.json"
    again = "give the command of the run again"
    if not file.is_file():
        raise ValueError(f"{folder} has no summary.json, the run is not finished; {again}")
    place.check_own(folder)
    rows = tuple(lines.whole(folder))
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {again}") from error
    if found != figures_of(task, rows, manifest):
        raise ValueError(f"{file} does not say what the rows of the run say; {again}")
    return Run(folder, manifest, found, rows)


def sentence(run: Run) -> str:
    """The outcome, for someone who reads nothing else."""
    name = run.manifest.get("models", {}).get("classifier", {}).get("name", "The classifier")
    found, count = run.rates, len(run.rows)
    if not found:
        return f"{count} images were purified; what they show was not asked."
    if run.task == "purify":
        return (
            f"{name} gets {_part(found['accuracy_after'])} images right after purification, "
            f"and {_part(found['accuracy_before'])} before it."
        )
    before = "" if run.task == "synthesize" else f"gets {_part(found['clean_accuracy'])} images "
    before = before and f"{before}right as they are, and "
    rate, fooled = found.get(SHOWN), found[FOOLED]
    made = f"{fooled.total} images drawn from noise"
    if run.task == "transform":
        made = f"those {fooled.total} after the transformation"
    if rate is None:
        return (
            f"{name} {before}errs on {fooled.count} of {made}; whether they still show their class "
            "was not checked: give --judge."
        )
    low, high = (f"{100 * end:.0f}" for end in rate.interval)
    return (
        f"{name} {before}is fooled by {rate.count} of {made} that still show their class to the "
        f"judge {judge_name(run.manifest)} (95 %, interval {low}-{high} %), and errs on "
        f"{fooled.count} whatever they show."
    )


def caveats(run: Run) -> list[str]:
    """How good the judge is, what makes the headline doubtful, and what to try."""
    told = []
    if SHOWN in run.rates:
        right = judge_quality(run.rates, run.manifest)
        quality = "is not known" if right is None else f"is {right}"
        told = [f"The judge {judge_name(run.manifest)}: right on untouched images {quality}."]
    more = [("Read this first", "warnings"), ("To try", "hints")]
    return told + [f"{say}: {text}." for say, key in more for text in run.summary.get(key, ())]


def _part(rate: Rate) -> str:
    return f"{rate.count} of {rate.total}"


def _shares(run: Run) -> list[str]:
    if not run.rates:
        return []
    place_of = {name: place for place, name in enumerate(NAMES)}
    order = sorted(run.rates, key=lambda name: place_of.get(_stem(name), len(NAMES)))
    named = [(_words(name), run.rates[name]) for name in order]
    return [rates("Shares of the images, with 95 % intervals (Wilson).", named)]


def _stem(rate: str) -> str:
    return rate.removesuffix("_without_retries")


def _words(rate: str) -> str:
    words = NAMES.get(_stem(rate), _stem(rate).replace("_", " "))
    return words if _stem(rate) == rate else f"{words}, first try only"


def _changes(run: Run) -> list[str]:
    """How far the images moved: medians, and the whole distribution of the largest change."""
    medians = run.summary["medians"]
    if not medians:
        return []
    caption = "How far the saved images are from the originals; colour values lie in [0, 1]."
    rows = [(NORMS[norm], *_median(norm, found)) for norm, found in medians.items()]
    return [table(caption, ("", "median", "interval"), rows), _distribution(run)]


def _median(norm: str, found: Mapping[str, Any]) -> tuple[Entry, Entry]:
    def number(value: float) -> str:
        return f"{255 * value:.0f}/255" if norm == "linf" else f"{value:.4g}"

    middle = (number(found["value"]), f"of {found['total']} images")
    if "low" not in found:
        return middle, str(found.get("interval", ""))
    inside = f"{number(found['low'])} to {number(found['high'])}"
    return middle, (inside, str(found.get("interval", "")))


def _distribution(run: Run) -> str:
    """The share of images whose largest change is at most x."""
    largest = sorted(
        round(255 * row["distances"]["linf"]) for row in run.rows if "distances" in row
    )
    reached = [(i + 1) / len(largest) for i in range(len(largest))]
    line = Curve("images", [0, *largest], [0, *reached])
    alt = f"Share of images by largest change: from {largest[0]} to {largest[-1]} of 255."
    labels = "largest change of a colour value, in 1/255", "share of images"
    svg = curves([line], *labels, alt=alt, steps=True, mark=(8, "8/255, a usual bound"))
    return figure(svg, "The share of images in which no colour value moved by more than x.")


def _cost(run: Run) -> str:
    rows = [
        (words, f"{run.summary[name]['sum']:,}", f"{run.summary[name]['per_image']:g}")
        for name, words in COSTS.items()
        if name in run.summary
    ]
    return table(f"Over {len(run.rows)} images.", ("", "together", "an image"), rows)


def _settings(run: Run) -> list[tuple[str, str]]:
    """What determined the images, by the names of manifest.json."""
    outside = (
        "versions", "machine", "started", "finished", "format", "images", "image_ids", "classes",
        "probe", "seal",
    )  # fmt: skip
    kept = {name: value for name, value in run.manifest.items() if name not in outside}
    known = [(name, value) for name, value in leaves(kept) if value not in (None, {}, [])]
    return [(name, shorten(str(value), 200, placeholder=" ...")) for name, value in known]


def _foot(run: Run) -> str:
    known = dict(leaves(run.manifest))
    return ", ".join(f"{name.split('.')[-1]} {known[name]}" for name in FOOT if known.get(name))
