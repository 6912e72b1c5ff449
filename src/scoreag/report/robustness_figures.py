"""The experiments that the tables and figures of an assessment show, its charts and its images."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.metrics import CellResult
from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults
from scoreag.io.filesystem import resolve_inside
from scoreag.io.images import read_png
from scoreag.io.records import Row
from scoreag.methods.scale_search import AUTO
from scoreag.report.html import (
    MAX_CURVES,
    Chart,
    Strip,
    metric_curve,
    plot_curves,
    strip_of_row,
)
from scoreag.report.provenance import shorten_names
from scoreag.stats.estimates import MetricEntry

NAME_COLUMNS = ("classifier", "defense", "attack")
PRESERVED = "label preserved, by the reference classifiers"
SIZES = {"attack_scale": "attack scale s_y", "eps": "eps, pixels in [0, 1]"}  # of attacks
MAX_CELLS = 24  # experiments whose images are shown; the pictures of all are in the folder
OUTCOMES: dict[str, tuple[bool | None, int]] = {  # whether it is good; images shown
    "not fooled": (False, 6),
    "label not preserved": (False, 6),
    "fooled": (True, 6),
    "misclassified before": (None, 2),
}


def attacked_cells(assessment: AssessmentResults) -> list[CellResult]:
    """The experiments that have rows, without those on clean images."""
    return [one for one in assessment.cells if one.cell.task != CLEAN and len(one.columns)]


def in_distribution_cells(assessment: AssessmentResults) -> list[CellResult]:
    """Of these, all but purifications and images of other datasets."""
    return [c for c in attacked_cells(assessment) if not c.cell.is_ood and c.cell.task != "purify"]


def strongest_variants(assessment: AssessmentResults) -> list[CellResult]:
    """Of each attack on an undefended classifier, the variant with the largest ``success_key``."""
    best: dict[tuple[str, str, str], CellResult] = {}
    for one in in_distribution_cells(assessment):
        if one.cell.purifier_name == NONE:
            key = (one.cell.group, one.cell.classifier, one.cell.attack)
            best[key] = max(best.get(key, one), one, key=success_key)
    return list(best.values())


def success_key(one: CellResult) -> float:
    """Attack success with the label preserved; without reference classifiers, attack success."""
    return value_of(one.metrics.get("fooled_and_shown", one.metrics["success"]))


def value_of(entry: MetricEntry) -> float:
    return float(entry["value"] or 0)


def attack_scale(one: CellResult) -> float:
    """Of a cell with a fixed scale; infinite for one whose images find their own."""
    scale = one.cell.options.get("attack_scale", 0)
    return math.inf if scale == AUTO else float(scale)


def cell_label(assessment: AssessmentResults, name: str) -> str:
    """The name of an experiment, without its dataset where there is only one."""
    return name if has_several_groups(assessment) else name.partition("/")[2]


def has_several_groups(assessment: AssessmentResults) -> bool:
    """Whether the plan has more than one dataset."""
    return len({one.cell.group for one in assessment.cells}) > 1


def name_fields(assessment: AssessmentResults, cell: Cell) -> list[str]:
    """Dataset, where there are several, classifier, defense and attack of an experiment."""
    group = [cell.group] if has_several_groups(assessment) else []
    classifier = model_names(assessment)[cell.classifier]
    return [*group, classifier, cell.purifier_name, attack_name(cell)]


def attack_name(cell: Cell) -> str:
    """The attack with the values of a sweep: gat (attack scale 10)."""
    values = ", ".join(f"{name.replace('_', ' ')} {word}" for name, word in cell.sweep.items())
    return f"{cell.attack} ({values})" if values else cell.attack


def model_names(assessment: AssessmentResults) -> dict[str, str]:
    """Each model of an assessment, without the folders of its path: models/mine is mine."""
    cells = [one.cell for one in assessment.cells]
    names = [
        word
        for cell in cells
        for word in (cell.classifier, cell.prior, *cell.reference_classifiers,
                     *cell.transfer_targets)
        if word
    ]  # fmt: skip
    return {name: name for name in names} | shorten_names(names)


def describe_judges(assessment: AssessmentResults, group: str) -> str:
    """The accuracy of the reference classifiers of a dataset; "" where it has none."""
    cells = [one.cell for one in assessment.cells if one.cell.group == group]
    rates = assessment.judge_accuracy.get(group, {})
    texts = []
    for name in cells[0].reference_classifiers if cells else ():
        if (rate := rates.get(name)) is None:
            texts.append(f"{name}: accuracy on untouched images is not known")
            continue
        low, high = (f"{100 * end:.0f}" for end in rate.interval)
        count = f"{rate.count} of {rate.total} {rate.population}"
        texts.append(f"{name}: right on {count}, {low} to {high} %")
    return "; ".join(texts)


def plot_trade_offs(assessment: AssessmentResults) -> list[Chart]:
    """Success of all attacks on a classifier and defense: vs. LPIPS, cost, label preservation."""
    charts: list[Chart] = []
    for defense, members, judging in _by_defense(assessment):
        shown = "fooled_and_shown" if judging else ""
        charts += _trade_off_charts(defense, members, "lpips", "LPIPS", shown, judging)
        charts += _trade_off_charts(
            defense, members, "nfe", "denoiser calls an image", shown, judging
        )  # fmt: skip
        charts += _trade_off_charts(defense, members, "judge_agreement", PRESERVED, "", judging)
    return charts


def plot_sweeps(assessment: AssessmentResults) -> list[Chart]:
    """Accuracy and label preservation over the size of an attack, for each one that sweeps it."""
    charts = []
    for defense, members, judging in _by_defense(assessment):
        for attack, cells in groupby(members, key=lambda one: one.cell.attack):
            every = list(cells)
            for option in SIZES:
                swept = [one for one in every if math.isfinite(_swept_value(one, option))]
                if len({_swept_value(one, option) for one in swept}) > 1:
                    swept = sorted(swept, key=partial(_swept_value, option=option))
                    charts.append(_sweep_chart(f"{defense}, {attack}", swept, judging, option))
    return charts


def _swept_value(one: CellResult, option: str) -> float:
    """The value of an option that the plan sweeps; infinite where there is no number."""
    value = one.cell.options.get(option) if option in one.cell.sweep else None
    return float(value) if isinstance(value, int | float) else math.inf


def _by_defense(assessment: AssessmentResults) -> Iterator[tuple[str, list[CellResult], str]]:
    """The experiments of each classifier and defense, and the accuracy of its judges."""
    groups: dict[str, list[CellResult]] = {}
    for one in in_distribution_cells(assessment):
        groups.setdefault(cell_label(assessment, one.cell.defense), []).append(one)
    for defense, members in groups.items():
        judging = describe_judges(assessment, members[0].cell.group)
        yield defense, members, f" Reference classifier {judging}." if judging else ""


def _trade_off_charts(
    defense: str,
    members: Sequence[CellResult],
    metric: str,
    metric_label: str,
    outcome: str,
    judging: str,
) -> Iterator[Chart]:
    """One curve an attack, through its variants.

    Args:
        outcome: the metric on the y axis; "" is the success on images that were right before.
    """
    curves = []
    several_counts = len({len(one.columns) for one in members}) > 1
    for attack, cells in groupby(members, key=lambda one: one.cell.attack):
        measured = list(cells)
        if several_counts:
            attack += f" ({len(measured[0].columns)} images)"
        points = [
            (x, one.metrics.get(outcome or "success_of_right", one.metrics["success"]))
            for one in measured
            if (x := _position(one, metric)) is not None
        ]
        points.sort(key=lambda point: point[0])
        if points:
            curves.append(metric_curve(attack, [x for x, _ in points], [y for _, y in points]))
    if len(curves) < 2 and not any(len(curve.x) > 1 for curve in curves):
        return
    y_label = "fooled, label preserved" if outcome else "attack success"
    for start in range(0, len(curves), MAX_CURVES):
        chunk = curves[start : start + MAX_CURVES]
        names = ", ".join(curve.name for curve in chunk)
        alt = f"{defense}: {y_label} of {names} vs. {metric_label}"
        svg = plot_curves(chunk, metric_label, y_label, alt=alt)
        caption = (
            f"{defense}: {y_label}, of images that were correct before, vs. {metric_label}; "
            f"bands and bars are 95 % intervals.{judging}"
        )
        yield Chart(svg, caption)


def _position(one: CellResult, metric: str) -> float | None:
    """A metric or a cost of an experiment, if it has it."""
    if metric in one.metrics:
        return value_of(one.metrics[metric])
    return None if metric not in one.cost else float(one.cost[metric])


def _sweep_chart(title: str, swept: Sequence[CellResult], judging: str, option: str) -> Chart:
    x = [_swept_value(one, option) for one in swept]
    size = SIZES[option]
    names = {
        "accuracy": "robust accuracy",
        "judge_agreement": PRESERVED,
        "fooled_and_shown": "attack success, label preserved",
    }
    curves = [
        metric_curve(label, x, [one.metrics[name] for one in swept])
        for name, label in names.items()
        if all(name in one.metrics for one in swept)
    ]
    alt = f"{title}: robust accuracy vs. {size}"
    log_x = option == "attack_scale" and min(x) > 0
    svg = plot_curves(curves, size, "fraction", alt=alt, log_x=log_x)
    return Chart(svg, f"{title}: robust accuracy and label preservation vs. {size}.{judging}")


def image_blocks(assessment: AssessmentResults) -> tuple[list[dict[str, Any]], int]:
    """The images of the strongest variants, then of other experiments; how many are left out.

    A block has a title and strips, failures of the attack first.
    """
    first = strongest_variants(assessment)
    cells = [*first, *(one for one in attacked_cells(assessment) if one not in first)]
    blocks = [
        {
            "title": f"{one.cell.group}: {one.cell.name.partition('/')[2]}",
            "strips": list(_strips(assessment, one)),
        }
        for one in cells[:MAX_CELLS]
    ]
    return blocks, len(cells) - len(blocks)


def _strips(assessment: AssessmentResults, one: CellResult) -> Iterator[Strip]:
    for outcome, (good, count) in OUTCOMES.items():
        for row in [row for row in one.sample_rows if _outcome(row) == outcome][:count]:

            def read(prefix: str, row: Row = row) -> Any:
                return read_png(resolve_inside(assessment.folder, row[f"{prefix}file"]))

            judges = [*row["judges"].values()]
            mark, with_label = (outcome, good), not one.cell.is_ood
            yield strip_of_row(row, read, one.cell.classes, judges, mark, with_label)


def _outcome(row: Row) -> str:
    if row["predictions"]["before"] not in (None, row["label"]):
        return "misclassified before"
    if not row["success"]:
        return "not fooled"
    preserved = all(judge["saved"] == row["label"] for judge in row["judges"].values())
    return "fooled" if preserved else "label not preserved"
