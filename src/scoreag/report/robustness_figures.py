"""The charts and the images of an assessment."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.io.filesystem import resolve_inside
from scoreag.io.images import read_png
from scoreag.io.records import Row
from scoreag.report.image_grid import Strip, strip_of_row
from scoreag.report.robustness_selection import (
    attack_scale,
    attacked_cells,
    cell_label,
    describe_judges,
    in_distribution_cells,
    strongest_variants,
    value_of,
)
from scoreag.report.svg_plots import SERIES_COLORS, Chart, metric_curve, plot_curves
from scoreag.stats.estimates import MetricEntry

PRESERVED = "label preserved, by the reference classifiers"
IMAGES_PER_OUTCOME = {"misclassified before": 2}  # of an experiment that are shown; else:
MAX_PER_OUTCOME = 6
MAX_CELLS = 24  # experiments whose images are shown; the pictures of all are in the folder


def plot_trade_offs(assessment: AssessmentResults) -> list[Chart]:
    """Success vs. LPIPS and vs. label preservation, for each classifier and defense."""
    charts: list[Chart] = []
    for defense, members, judging in _by_defense(assessment):
        charts += _trade_off_charts(defense, members, "lpips", "LPIPS", "")
        charts += _trade_off_charts(defense, members, "judge_agreement", PRESERVED, judging)
    return charts


def plot_scale_sweeps(assessment: AssessmentResults) -> list[Chart]:
    """Accuracy and label preservation over the attack scale, for each attack that sweeps it."""
    charts = []
    for defense, members, judging in _by_defense(assessment):
        for attack, cells in groupby(members, key=lambda one: one.cell.attack):
            swept = [one for one in cells if "attack_scale" in one.cell.sweep]
            if len({attack_scale(one) for one in swept}) > 1:
                swept.sort(key=attack_scale)
                charts.append(_sweep_chart(f"{defense}, {attack}", swept, judging))
    return charts


def _by_defense(assessment: AssessmentResults) -> Iterator[tuple[str, list[CellResult], str]]:
    """The experiments of each classifier and defense, and how good its reference classifier is."""
    groups: dict[str, list[CellResult]] = {}
    for one in in_distribution_cells(assessment):
        groups.setdefault(cell_label(assessment, one.cell.defense), []).append(one)
    for defense, members in groups.items():
        judging = describe_judges(assessment, members[0].cell.group)
        yield defense, members, f" Reference classifier {judging}." if judging else ""


def _trade_off_charts(
    defense: str, members: Sequence[CellResult], metric: str, metric_label: str, judging: str
) -> Iterator[Chart]:
    curves = []
    several_counts = len({len(one.columns) for one in members}) > 1
    for attack, cells in groupby(members, key=lambda one: one.cell.attack):
        measured = list(cells)
        if several_counts:
            attack += f" ({len(measured[0].columns)} images)"
        points = [(one.metrics[metric], _success(one)) for one in measured if metric in one.metrics]
        points.sort(key=lambda point: value_of(point[0]))
        if points:
            x = [value_of(distance) for distance, _ in points]
            curves.append(metric_curve(attack, x, [success for _, success in points]))
    if len(curves) < 2 and not any(len(curve.x) > 1 for curve in curves):
        return
    for start in range(0, len(curves), len(SERIES_COLORS)):
        chunk = curves[start : start + len(SERIES_COLORS)]
        names = ", ".join(curve.name for curve in chunk)
        alt = f"{defense}: attack success of {names} vs. {metric_label}"
        svg = plot_curves(chunk, metric_label, "attack success", alt=alt)
        caption = (
            f"{defense}: attack success on images that were correct before, vs. {metric_label}; "
            f"the bands are 95 % intervals.{judging}"
        )
        yield Chart(svg, caption)


def _success(one: CellResult) -> MetricEntry:
    return one.metrics.get("success_of_right", one.metrics["success"])


def _sweep_chart(title: str, swept: Sequence[CellResult], judging: str) -> Chart:
    x = [attack_scale(one) for one in swept]
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
    alt = f"{title}: robust accuracy vs. attack scale"
    svg = plot_curves(curves, "attack scale s_y", "fraction", alt=alt, log_x=min(x) > 0)
    return Chart(svg, f"{title}: robust accuracy and label preservation vs. attack scale.{judging}")


def image_blocks(assessment: AssessmentResults) -> tuple[list[dict[str, Any]], int]:
    """The images of the strongest variants and of all defended experiments; how many are left out.

    A block has a title and strips, failures of the attack first.
    """
    first = strongest_variants(assessment)
    cells = [*first, *(one for one in attacked_cells(assessment) if one not in first)]
    blocks = [_image_block(assessment.folder, one) for one in cells[:MAX_CELLS]]
    return blocks, len(cells) - len(blocks)


def _image_block(folder: Path, one: CellResult) -> dict[str, Any]:
    groups: Mapping[tuple[str, bool | None], list[Row]] = {
        (mark, good): [row for row in one.sample_rows if _outcome(row) == mark]
        for mark, good in (
            ("not fooled", False), ("label not preserved", False), ("fooled", True),
            ("misclassified before", None),
        )
    }  # fmt: skip
    strips = [
        _strip(folder, one, row, mark, good)
        for (mark, good), rows in groups.items()
        for row in rows[: IMAGES_PER_OUTCOME.get(mark, MAX_PER_OUTCOME)]
    ]
    return {"title": f"{one.cell.group}: {one.cell.name.partition('/')[2]}", "strips": strips}


def _outcome(row: Row) -> str:
    if row["predictions"]["before"] not in (None, row["label"]):
        return "misclassified before"
    if not row["success"]:
        return "not fooled"
    preserved = all(judge["saved"] == row["label"] for judge in row["judges"].values())
    return "fooled" if preserved else "label not preserved"


def _strip(folder: Path, one: CellResult, row: Row, mark: str, good: bool | None) -> Strip:
    return strip_of_row(
        row,
        lambda prefix: read_png(resolve_inside(folder, row[f"{prefix}file"])),
        one.cell.classes,
        [*row["judges"].values()],
        (mark, good),
        with_label=not one.cell.is_ood,
    )
