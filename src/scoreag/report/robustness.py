"""The page of an assessment: summary, sanity checks, charts and images around its tables."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from scoreag.assess.experiments import CLEAN
from scoreag.assess.metrics import CellResult
from scoreag.assess.plan import NONE
from scoreag.assess.results import (
    AssessmentResults,
    WorstCase,
    aggregate,
    group_comparable,
    write_summary,
)
from scoreag.io.filesystem import write_text
from scoreag.io.manifest import flatten
from scoreag.report.figure_export import number_charts, write_figures
from scoreag.report.html import Chart, TableCell, describe_environment, render_page
from scoreag.report.provenance import describe_reproduction, shorten_text
from scoreag.report.robustness_figures import (
    cell_label,
    describe_judges,
    image_blocks,
    in_distribution_cells,
    plot_sweeps,
    plot_trade_offs,
    success_key,
)
from scoreag.report.robustness_reading import (
    describe_plan,
    describe_title,
    format_radius,
    shorten_cells,
    suggest_stronger,
)
from scoreag.report.robustness_tables import build_tables
from scoreag.report.table_export import Table, write_tables
from scoreag.stats.estimates import MetricEntry


def write_report(folder: Path) -> Path:
    """Write summary.json, report.html, tables and figures of an assessment; the page's path."""
    assessment = aggregate(folder)
    write_summary(assessment)
    tables = build_tables(assessment)
    trade_offs, sweeps = plot_trade_offs(assessment), plot_sweeps(assessment)
    write_tables(folder, tables)
    write_figures(folder, number_charts("trade_off", trade_offs) | number_charts("sweep", sweeps))
    file = folder / "report.html"
    write_text(file, render_assessment(assessment, tables, trade_offs, sweeps))
    return file


def render_assessment(
    assessment: AssessmentResults,
    tables: Sequence[Table],
    trade_offs: Sequence[Chart],
    sweeps: Sequence[Chart],
) -> str:
    """The page with these tables and charts."""
    manifest = assessment.manifest
    blocks, n_left_out = image_blocks(assessment)
    return render_page(
        "robustness",
        shorten_cells(assessment),
        title=describe_title(assessment),
        subtitle=describe_plan(manifest),
        lead=list(summary_sentences(assessment)),
        findings=_finding_rows(assessment),
        hints=list(suggest_stronger(assessment)),
        incomplete=[[one.cell.name, one.state] for one in assessment.cells if one.state != "done"],
        sections=[
            (title, [table.joined() for table in some])
            for title, some in groupby(tables, lambda one: one.title)
        ],
        trade_offs=trade_offs,
        sweeps=sweeps,
        blocks=blocks,
        n_left_out=n_left_out,
        config=_list_config(assessment),
        reproduction=describe_reproduction(manifest),
        footer=[describe_environment(manifest)],
    )


def summary_sentences(assessment: AssessmentResults) -> Iterator[str]:
    """The outcome in a few sentences."""
    for group, clean in assessment.clean_accuracy.items():
        cells = [one for one in in_distribution_cells(assessment) if one.cell.group == group]
        if not cells:
            continue
        first = next(one.cell for one in assessment.cells if one.cell.group == group)
        attacks = [one for one in cells if one.cell.classifier == first.classifier]
        judging = describe_judges(assessment, group)
        yield _describe_best_attack(first.classifier, clean[first.classifier], attacks, judging)
        defenses = [one for one in assessment.defenses if one.group == group]
        yield from map(describe_comparison, group_comparable(defenses))
    errors = sum(finding.is_error for finding in assessment.findings)
    if errors:
        yield f"Read this first: {errors} of the sanity checks below are errors."


def _describe_best_attack(
    classifier: str, clean: MetricEntry, cells: Sequence[CellResult], judging: str
) -> str:
    """The attack with most successes that preserve the label, among those on equal images."""
    text = f"{classifier} classifies {_count_of(clean)} clean images correctly"
    bare = _on_largest_set([one for one in cells if one.cell.purifier_name == NONE])
    if not bare:
        return f"{text}."
    best = max(bare, key=success_key)
    images = "generated images" if best.cell.task == "synthesize" else "images that it got right"
    if is_judged := "fooled_and_shown" in best.metrics:
        check = f" while the label is preserved (reference classifier {judging})"
    else:
        check = "; label preservation was not checked, as the dataset has no reference classifier"
    entry = best.metrics["fooled_and_shown" if is_judged else "success"]
    return f"{text}; {_attack_label(best)} fools it on {_count_of(entry)} {images}{check}."


def _on_largest_set(cells: Sequence[CellResult]) -> list[CellResult]:
    """The cells with the largest set of images; generated ones where there are no others."""
    candidates = [one for one in cells if one.cell.task != "synthesize"] or list(cells)
    ids = [frozenset(one.columns.image_ids.tolist()) for one in candidates]
    largest = max(ids, key=len, default=frozenset())
    return [one for one, own in zip(candidates, ids, strict=True) if own == largest]


def _attack_label(one: CellResult) -> str:
    """The attack with its swept options and its radius."""
    options = dict(one.cell.sweep)
    if "eps" not in options and "eps" in one.cell.options:
        options["eps"] = format_radius(float(one.cell.options["eps"]))
    values = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"{one.cell.attack} ({values})" if values else one.cell.attack


def describe_comparison(members: Sequence[WorstCase]) -> str:
    """The robust accuracies of defenses under the same attacks, and whether one is highest."""
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
    """A row per finding; equal ones of several experiments are one row."""
    cells: dict[tuple[bool, str, str], list[str]] = {}
    for finding in assessment.findings:
        key = (finding.is_error, finding.check, finding.message)
        cells.setdefault(key, []).append(cell_label(assessment, finding.cell))
    return [
        [
            ("error" if is_error else "warning", check),
            (first, f"and {len(others)} more") if others else first,
            message,
        ]
        for (is_error, check, message), (first, *others) in cells.items()
    ]


def _list_config(assessment: AssessmentResults) -> list[tuple[str, str]]:
    """The plan, and the digests of the models and data that it names."""
    plan = flatten(assessment.manifest.get("plan", {}))
    entries = [(name, shorten_text(str(value))) for name, value in plan]
    digests: dict[str, str] = {}
    for one in assessment.cells:
        cell, content = one.cell, one.cell.content
        models = {cell.classifier: content.get("classifier"), cell.prior: content.get("prior")}
        models |= {**content.get("reference_classifiers", {}), **content.get("guides", {})}
        digests |= {f"sha256 of {n}": str(m["sha256"]) for n, m in models.items() if m}
        if cell.task == CLEAN:
            digests[f"sha256 of {cell.data}"] = str(content.get("data", {}).get("sha256"))
    return [*entries, *digests.items()]
