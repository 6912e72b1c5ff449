"""The page of an assessment: summary, sanity checks, tables, charts, images and cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

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
from scoreag.report.html import TableCell, render_page
from scoreag.report.plots import Chart
from scoreag.report.provenance import (
    describe_environment,
    describe_reproduction,
    shorten_names,
    shorten_text,
)
from scoreag.report.robustness_figures import (
    cell_label,
    defense_label,
    defense_name,
    describe_judges,
    image_blocks,
    in_distribution_cells,
    number_charts,
    plot_radii,
    plot_scale_sweeps,
    plot_trade_offs,
    success_key,
)
from scoreag.report.robustness_tables import build_tables
from scoreag.report.table_export import FieldValue, Table, write_tables
from scoreag.stats.estimates import MetricEntry

MAX_NAMES = 3  # of classifiers, in a title
UNNAMED = ("plan", "attack")  # plans whose name says nothing


def write_report(folder: Path) -> Path:
    """Write summary.json, report.html, the tables and the figures of an assessment; the page."""
    assessment = aggregate(folder)
    write_summary(assessment)
    names = _short_names(assessment)
    tables = [shorten_table(table, names) for table in build_tables(assessment)]
    write_tables(folder / "tables", tables)
    charts = {
        "trade_offs": number_charts(plot_trade_offs(assessment)),
        "radius_charts": number_charts(plot_radii(assessment)),
        "sweeps": number_charts(plot_scale_sweeps(assessment)),
    }
    for chart in (chart for some in charts.values() for chart in some):
        chart.write(folder / "figures")
    file = folder / "report.html"
    write_text(file, render_assessment(assessment, tables, charts, names))
    return file


def render_assessment(
    assessment: AssessmentResults,
    tables: Sequence[Table],
    charts: Mapping[str, Sequence[Chart]],
    names: Mapping[str, str],
) -> str:
    """The page with these tables and charts.

    Args:
        names: models that are named by a path, with the names to show.
    """
    manifest = assessment.manifest
    blocks, n_left_out = image_blocks(assessment)
    return render_page(
        "robustness",
        names,
        title=_title(assessment),
        subtitle=_describe_plan(manifest),
        lead=list(summary_sentences(assessment)),
        hints=list(suggest_stronger(assessment)),
        findings=_finding_rows(assessment),
        incomplete=[[one.cell.name, one.state] for one in assessment.cells if one.state != "done"],
        sections=[(title, list(some)) for title, some in groupby(tables, lambda one: one.title)],
        **charts,
        blocks=blocks,
        n_left_out=n_left_out,
        config=_list_config(assessment),
        reproduction=describe_reproduction(manifest),
        footer=[describe_environment(manifest)],
    )


def _title(assessment: AssessmentResults) -> str:
    """The classifiers; the attack, where there is one; the data, where all are the same."""
    cells = [one.cell for one in assessment.cells]
    classifiers = list(dict.fromkeys(cell.classifier for cell in cells))
    attacks = list(dict.fromkeys(cell.attack for cell in cells if cell.task != CLEAN))
    data = {cell.data for cell in cells if cell.task == CLEAN}
    who = ", ".join(classifiers)
    if len(classifiers) > MAX_NAMES:
        who = f"{len(classifiers)} classifiers"
    title = f"Robustness of {who}" + (f" to {attacks[0]}" if len(attacks) == 1 else "")
    return shorten_text(f"{title} on {data.pop()}" if len(data) == 1 else title)


def _describe_plan(manifest: Mapping[str, Any]) -> str:
    """The name of the plan, where it has one of its own, and its description."""
    name = str(manifest["task"]).removeprefix("assess ")
    description = str(manifest.get("plan", {}).get("description") or "")
    return ": ".join(filter(None, ("" if name in UNNAMED else f"Plan {name}", description)))


def _short_names(assessment: AssessmentResults) -> dict[str, str]:
    """The models that are named by an absolute path, with the last part of it."""
    cells = [one.cell for one in assessment.cells]
    return shorten_names(
        word
        for cell in cells
        for word in (cell.classifier, cell.prior, *cell.reference_classifiers,
                     *cell.transfer_targets)
        if word
    )  # fmt: skip


def shorten_table(table: Table, names: Mapping[str, str]) -> Table:
    """The table with short names of models."""

    def short(field: FieldValue) -> FieldValue:
        for path, name in names.items() if isinstance(field, str) else ():
            field = str(field).replace(path, name)
        return field

    if not names:
        return table
    rows = [[short(field) for field in row] for row in table.rows]
    header = [str(short(name)) for name in table.header]
    return replace(table, caption=str(short(table.caption)), header=header, rows=rows)


def suggest_stronger(assessment: AssessmentResults) -> Iterator[str]:
    """What to try where none of the variants of an attack fools a classifier."""
    variants: dict[tuple[str, str], list[CellResult]] = {}
    for one in in_distribution_cells(assessment):
        variants.setdefault((defense_label(assessment, one), one.cell.attack), []).append(one)
    for (defense, attack), cells in variants.items():
        if any(one.metrics["success"]["count"] for one in cells):
            continue
        total = max(one.metrics["success"]["total"] for one in cells)
        yield (
            f"To try: {attack} fools {defense} on 0 of {total} images; "
            f"{_stronger_options(cells[0])}."
        )


def _stronger_options(one: CellResult) -> str:
    options = one.cell.options
    if "attack_scale" in options:
        return (
            "write a larger attack_scale or a smaller similarity in the plan, or "
            'attack_scale = "auto", and check the classifier by scoreag doctor'
        )
    words = [name for name in ("eps", "steps") if name in options]
    more = f"write a larger {' or more '.join(words)}, or " if words else ""
    return f"{more}check the gradients of the classifier by scoreag doctor"


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


def format_radius(eps: float) -> str:
    """A whole number of 255ths as such, e.g. 8/255."""
    levels = 255 * eps
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.4g}"


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
    return defense_name(one.classifier, one.purifier)


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
