"""The page of an assessment: what it found in a sentence, doubts, tables, curves, images, cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from scoreag.assess.experiments import CLEAN
from scoreag.assess.plan import NONE
from scoreag.assess.results import (
    AssessmentResults,
    CellResult,
    aggregate,
    group_comparable,
    write_summary,
)
from scoreag.io.filesystem import write_text
from scoreag.report import table_export
from scoreag.report.html import TableCell as Words
from scoreag.report.html import definition_list, paragraph, render_page, section, table
from scoreag.report.robustness_cells import (
    cell_label,
    describe_judges,
    in_distribution_cells,
    success_key,
)
from scoreag.report.robustness_curves import plot_strength_sweep, plot_trade_offs
from scoreag.report.robustness_defenses import describe_comparison
from scoreag.report.robustness_images import render_image_blocks
from scoreag.report.robustness_tables import build_tables
from scoreag.report.table_export import Table
from scoreag.report.task_run import FOOTER_KEYS
from scoreag.runs.manifest import flatten
from scoreag.stats.estimates import MetricEntry

SECTION_TITLES = {  # of the sections, by the names of their tables
    "cells": "What each attack achieves",
    "worst_case": "What is left when all attacks are used",
    "randomised": "Randomised defences",
    "transfer": "Made against one, shown to others",
    "differences": "One attack against another",
    "changes": "How far the images moved",
    "classes": "Class by class",
    "generator": "Classes that the score model serves badly",
    "strangers": "Inputs from another data set",
    "cost": "What it cost",
}
GLOSSARY = (
    ("right before", "the classifier says the label of the image before the attack."),
    ("fooled", "it does not say the label to the saved 8-bit image."),
    ("judge", "another classifier, asked only when all is done; it stands in for a person who says "
     "what a picture shows, as far as it is right on untouched images."),
    ("gas", "images drawn from nothing, of a class that the classifier takes for another."),
    ("gat", "images drawn again near the given ones by a score model, until the classifier errs."),
    ("gap", "the most natural image near a given one: as an attack it is none, as a purifier it "
     "stands before the classifier."),
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write summary.json, report.html and the tables of an assessment; the page's file."""
    account = aggregate(folder)
    write_summary(account)
    table_export.write_tables(folder / "tables", build_tables(account))
    file = folder / "report.html"
    write_text(file, render_assessment(account))
    return file


def render_assessment(assessment: AssessmentResults) -> str:
    """The page, as HTML."""
    made = build_tables(assessment)
    drawn, swept = plot_trade_offs(assessment), plot_strength_sweep(assessment)
    body = [
        *_findings_section(assessment),
        *_incomplete_section(assessment),
        *_sections(made[:1]),
        *([section("What it costs in likeness", *drawn)] if drawn else []),
        *([section("Over the strength of guidance", *swept)] if swept else []),
        *_sections(made[1:]),
        section("Images", *render_image_blocks(assessment)),
        section("The words", definition_list(GLOSSARY)),
        section("How it came about", definition_list(_config_entries(assessment))),
    ]
    name = str(assessment.manifest["task"]).removeprefix("assess ")
    return render_page(
        f"Assessment: {name}", list(summary_sentences(assessment)), body, [_footer(assessment)]
    )


def summary_sentences(assessment: AssessmentResults) -> Iterator[str]:
    """The outcome, for someone who reads nothing else."""
    for group, victims in assessment.clean_accuracy.items():
        mine = [one for one in in_distribution_cells(assessment) if one.cell.group == group]
        first = next((one for one in assessment.cells if one.cell.group == group), None)
        if first is None or not mine:
            continue
        victim = first.cell.classifier
        of_victim = [c for c in mine if c.cell.classifier == victim]
        yield _describe_best_attack(
            victim, victims[victim], of_victim, describe_judges(assessment, group)
        )
        defences = [left for left in assessment.defenses if left.group == group]
        yield from (describe_comparison(members) for members in group_comparable(defences))
    grave = sum(finding.is_error for finding in assessment.findings)
    if grave:
        yield f"Read this first: {grave} of the checks below say that a figure may mislead."


def _describe_best_attack(
    classifier: str, clean: MetricEntry, cells: Sequence[CellResult], judge_quality: str
) -> str:
    """The attack that fools most while the judges still see the class, of those on equal images."""
    bare = _largest_common_set([one for one in cells if one.cell.purifier_name == NONE])
    told = f"{classifier} is right on {_format_count(clean)} images as they are"
    if not bare:
        return f"{told}."
    best = max(bare, key=success_key)
    entry = best.metrics.get("fooled_and_shown", best.metrics["success"])
    sees = f", while the judges still see in them what they show ({judge_quality})"
    unseen = "; whether these still show their class was not checked, as the set has no judge"
    among = f"images {'drawn' if best.cell.task == 'synthesize' else 'that it got right'}"
    return (
        f"{told}; the attack {_attack_label(best)} fools it on {_format_count(entry)} {among}"
        f"{sees if 'fooled_and_shown' in best.metrics else unseen}."
    )


def _largest_common_set(cells: Sequence[CellResult]) -> list[CellResult]:
    """Those that were given the largest set of images; images from nothing where that is all."""
    given = [one for one in cells if one.cell.task != "synthesize"] or list(cells)
    ids = [frozenset(one.columns.image_ids.tolist()) for one in given]
    most = max(ids, key=len, default=frozenset())
    return [one for one, mine in zip(given, ids, strict=True) if mine == most]


def _attack_label(one: CellResult) -> str:
    """The attack with what is swept, and with its radius."""
    told = dict(one.cell.sweep)
    if "eps" not in told and "eps" in one.cell.options:
        told["eps"] = f"{one.cell.options['eps']:.4g}"
    swept = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"{one.cell.attack} ({swept})" if swept else one.cell.attack


def _format_count(entry: MetricEntry) -> str:
    return f"{entry['count']} of {entry['total']}"


def _findings_section(assessment: AssessmentResults) -> list[str]:
    if not assessment.findings:
        return [section("Doubts", paragraph("None of the checks found anything to doubt."))]
    alike: dict[tuple[bool, str, str], list[str]] = {}
    for f in assessment.findings:
        alike.setdefault((f.is_error, f.check, f.message), []).append(
            cell_label(assessment, f.cell)
        )
    rows: list[list[Words]] = [
        [("grave" if grave else "note", check), _first_and_count(cells), says]
        for (grave, check, says), cells in alike.items()
    ]
    return [section("Doubts", table("What the checks found.", ("", "cell", "what"), rows))]


def _first_and_count(cells: Sequence[str]) -> Words:
    """The first of several cells, and how many there are."""
    return (cells[0], f"and {len(cells) - 1} cells more") if len(cells) > 1 else cells[0]


def _incomplete_section(assessment: AssessmentResults) -> list[str]:
    rows = [[one.cell.name, one.state] for one in assessment.cells if one.state != "done"]
    if not rows:
        return []
    caption = "Cells that are not finished: the same command goes on, and tries failed ones again."
    return [section("Not finished", table(caption, ("cell", "state"), rows))]


def _sections(tables_built: Sequence[Table]) -> Iterator[str]:
    """A section for each title, which may have several tables."""
    for key, title in SECTION_TITLES.items():
        mine = [one for one in tables_built if one.name == key or one.name.startswith(f"{key}_")]
        if mine:
            yield section(title, *(_render_table(one) for one in mine))


def _render_table(one: Table) -> str:
    rows = [[_render_field(field) for field in row] for row in one.rows]
    return table(one.caption, ["", *one.header[1:]], rows)


def _render_field(field: table_export.FieldValue) -> Words:
    value, small = table_export.format_value(field)
    return (value, small) if small else value


def _config_entries(assessment: AssessmentResults) -> list[tuple[str, str]]:
    """The plan, and the digests of what its words meant."""
    plan = [(name, str(value)) for name, value in flatten(assessment.manifest.get("plan", {}))]
    found: dict[str, str] = {}
    for one in assessment.cells:
        cell, content = one.cell, one.cell.content
        known = {cell.classifier: content.get("victim"), cell.prior: content.get("prior")}
        for word, of in {**known, **content.get("judges", {})}.items():
            if of:
                found[f"sha256 of {word}"] = str(of["sha256"])
        if cell.task == CLEAN:
            found[f"sha256 of {cell.data}"] = str(content.get("data", {}).get("sha256"))
    return [*plan, *found.items()]


def _footer(assessment: AssessmentResults) -> str:
    known = dict(flatten(assessment.manifest))
    told = ", ".join(
        f"{name.split('.')[-1]} {known[name]}" for name in FOOTER_KEYS if known.get(name)
    )
    return f"{known.get('command') or ''} - {told}"
