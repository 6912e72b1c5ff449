"""The page of an assessment: summary, sanity checks, tables, charts, images and cost."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from scoreag.assess.experiments import CLEAN
from scoreag.assess.plan import NONE
from scoreag.assess.results import (
    AssessmentResults,
    CellResult,
    WorstCase,
    aggregate,
    group_comparable,
    write_summary,
)
from scoreag.io.filesystem import write_text
from scoreag.io.manifest import flatten
from scoreag.report.html import TableCell, describe_environment, render_page
from scoreag.report.robustness_figures import image_blocks, plot_scale_sweeps, plot_trade_offs
from scoreag.report.robustness_selection import (
    cell_label,
    describe_judges,
    in_distribution_cells,
    success_key,
)
from scoreag.report.robustness_tables import build_tables
from scoreag.report.table_export import FieldValue, Table, format_value, write_tables
from scoreag.stats.estimates import MetricEntry


def write_report(folder: Path) -> Path:
    """Write summary.json, report.html and the tables of an assessment; the page's path."""
    assessment = aggregate(folder)
    write_summary(assessment)
    tables = build_tables(assessment)
    write_tables(folder / "tables", tables)
    file = folder / "report.html"
    write_text(file, render_assessment(assessment, tables))
    return file


def render_assessment(assessment: AssessmentResults, tables: Sequence[Table]) -> str:
    """The page with these tables."""
    manifest = assessment.manifest
    blocks, n_left_out = image_blocks(assessment)
    return render_page(
        "robustness",
        title=f"Assessment: {str(manifest['task']).removeprefix('assess ')}",
        lead=list(summary_sentences(assessment)),
        findings=_finding_rows(assessment),
        incomplete=[[one.cell.name, one.state] for one in assessment.cells if one.state != "done"],
        sections=_sections(tables),
        trade_offs=plot_trade_offs(assessment),
        sweeps=plot_scale_sweeps(assessment),
        blocks=blocks,
        n_left_out=n_left_out,
        config=_list_config(assessment),
        footer=[f"{manifest.get('command') or ''} - {describe_environment(manifest)}"],
    )


def summary_sentences(assessment: AssessmentResults) -> Iterator[str]:
    """The outcome, for someone who reads nothing else."""
    for group, clean in assessment.clean_accuracy.items():
        cells = [one for one in in_distribution_cells(assessment) if one.cell.group == group]
        members = [one.cell for one in assessment.cells if one.cell.group == group]
        if not (cells and members):
            continue
        classifier = members[0].classifier
        attacks = [one for one in cells if one.cell.classifier == classifier]
        judging = describe_judges(assessment, group)
        yield _describe_best_attack(classifier, clean[classifier], attacks, judging)
        defenses = [one for one in assessment.defenses if one.group == group]
        yield from map(describe_comparison, group_comparable(defenses))
    errors = sum(finding.is_error for finding in assessment.findings)
    if errors:
        yield f"Read this first: {errors} of the sanity checks below are errors."


def _describe_best_attack(
    classifier: str, clean: MetricEntry, cells: Sequence[CellResult], judging: str
) -> str:
    """The attack that succeeds most with the label preserved, of those on equal images."""
    text = f"{classifier} classifies {_count_of(clean)} clean images correctly"
    bare = _on_largest_set([one for one in cells if one.cell.purifier_name == NONE])
    if not bare:
        return f"{text}."
    best = max(bare, key=success_key)
    is_judged = "fooled_and_shown" in best.metrics
    entry = best.metrics["fooled_and_shown" if is_judged else "success"]
    images = "generated images" if best.cell.task == "synthesize" else "images that it got right"
    if is_judged:
        check = f" while the label is preserved (reference classifier {judging})"
    else:
        check = "; label preservation was not checked, as the dataset has no reference classifier"
    return f"{text}; {_attack_label(best)} fools it on {_count_of(entry)} {images}{check}."


def _on_largest_set(cells: Sequence[CellResult]) -> list[CellResult]:
    """Those on the largest set of images; generated images where there are no others."""
    candidates = [one for one in cells if one.cell.task != "synthesize"] or list(cells)
    ids = [frozenset(one.columns.image_ids.tolist()) for one in candidates]
    largest = max(ids, key=len, default=frozenset())
    return [one for one, own in zip(candidates, ids, strict=True) if own == largest]


def _attack_label(one: CellResult) -> str:
    """The attack with its swept options, and with its radius."""
    options = dict(one.cell.sweep)
    if "eps" not in options and "eps" in one.cell.options:
        options["eps"] = f"{one.cell.options['eps']:.4g}"
    values = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"{one.cell.attack} ({values})" if values else one.cell.attack


def describe_comparison(members: Sequence[WorstCase]) -> str:
    """What defenses under the same attacks keep, and whether one of them keeps more."""
    best, *others = sorted(members, key=lambda one: -(one.accuracy["value"] or 0))
    close = [one for one in others if one.accuracy["high"] >= best.accuracy["low"]]
    accuracies = "; ".join(_describe_defense(one) for one in (best, *others))
    attacks = "attack" if best.n_attacks == 1 else f"{best.n_attacks} attacks"
    text = (
        f"Under the same {attacks} on the same {best.accuracy['total']} images, worst-case robust "
        f"accuracy (95 % intervals): {accuracies}."
    )
    if not close:
        return f"{text} The highest is that of {_defense_name(best)}."
    names = ", ".join(map(_defense_name, close))
    return (
        f"{text} The intervals of {_defense_name(best)} and {names} overlap: the difference is not "
        "established."
    )


def _defense_name(one: WorstCase) -> str:
    return one.classifier if one.purifier == NONE else f"{one.classifier} behind {one.purifier}"


def _describe_defense(one: WorstCase) -> str:
    low, high = (f"{100 * one.accuracy[end]:.0f}" for end in ("low", "high"))
    return f"{_defense_name(one)} {_count_of(one.accuracy)} ({low} to {high} %)"


def _count_of(entry: MetricEntry) -> str:
    return f"{entry['count']} of {entry['total']}"


def _finding_rows(assessment: AssessmentResults) -> list[list[TableCell]]:
    """Equal findings of several experiments as one row."""
    cells: dict[tuple[bool, str, str], list[str]] = {}
    for finding in assessment.findings:
        key = (finding.is_error, finding.check, finding.message)
        cells.setdefault(key, []).append(cell_label(assessment, finding.cell))
    return [
        [("error" if is_error else "warning", check), _first_of(names), message]
        for (is_error, check, message), names in cells.items()
    ]


def _first_of(names: Sequence[str]) -> TableCell:
    return (names[0], f"and {len(names) - 1} more") if len(names) > 1 else names[0]


def _sections(tables: Sequence[Table]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Tables with one title together, as text."""
    return [
        (title, [_view_table(one) for one in members])
        for title, members in groupby(tables, key=lambda one: one.title)
    ]


def _view_table(one: Table) -> dict[str, Any]:
    rows = [[_view_field(field) for field in row] for row in one.rows]
    return {"caption": one.caption, "header": ["", *one.header[1:]], "rows": rows}


def _view_field(field: FieldValue) -> TableCell:
    value, small = format_value(field)
    return (value, small) if small else value


def _list_config(assessment: AssessmentResults) -> list[tuple[str, str]]:
    """The plan, and the digests of what its words meant."""
    entries = [(name, str(value)) for name, value in flatten(assessment.manifest.get("plan", {}))]
    digests: dict[str, str] = {}
    for one in assessment.cells:
        cell, content = one.cell, one.cell.content
        models = {cell.classifier: content.get("classifier"), cell.prior: content.get("prior")}
        models |= content.get("reference_classifiers", {})
        digests |= {f"sha256 of {n}": str(m["sha256"]) for n, m in models.items() if m}
        if cell.task == CLEAN:
            digests[f"sha256 of {cell.data}"] = str(content.get("data", {}).get("sha256"))
    return [*entries, *digests.items()]
