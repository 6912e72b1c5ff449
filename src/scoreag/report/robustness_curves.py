"""Trade-offs of an assessment as curves: what an attack gains, and what it pays for it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.report.html import figure
from scoreag.report.robustness_cells import cell_label, describe_judges, in_distribution_cells
from scoreag.report.svg_plots import SERIES_COLORS, Curve, plot_curves
from scoreag.stats.estimates import MetricEntry

SUCCESS_LABEL = "fooled, of those right before"
AGREEMENT_LABEL = "judges still see the class"


def plot_trade_offs(assessment: AssessmentResults) -> list[str]:
    """Success against LPIPS and against the judges' agreement, for each classifier and defence."""
    drawn: list[str] = []
    for where, members in _group_by_defense(assessment):
        for name, words in (("lpips", "LPIPS"), ("judge_agreement", AGREEMENT_LABEL)):
            judging = (
                describe_judges(assessment, members[0].cell.group)
                if words == AGREEMENT_LABEL
                else ""
            )
            drawn += _trade_off_figures(where, members, name, words, judging)
    return drawn


def plot_strength_sweep(assessment: AssessmentResults) -> list[str]:
    """Accuracy and the judges' agreement over s_y, for each attack that sweeps it."""
    drawn = []
    for where, members in _group_by_defense(assessment):
        for attack, some in groupby(members, key=lambda one: one.cell.attack):
            swept = sorted(
                (one for one in some if "attack_scale" in one.cell.sweep),
                key=lambda one: _attack_scale(one),
            )
            if len({_attack_scale(one) for one in swept}) > 1:
                judging = describe_judges(assessment, members[0].cell.group)
                drawn.append(_sweep_figure(f"{where}, {attack}", swept, judging))
    return drawn


def _attack_scale(one: CellResult) -> float:
    return float(one.cell.options["attack_scale"])


def _group_by_defense(assessment: AssessmentResults) -> list[tuple[str, list[CellResult]]]:
    found: dict[str, list[CellResult]] = {}
    for one in in_distribution_cells(assessment):
        found.setdefault(cell_label(assessment, one.cell.defense), []).append(one)
    return list(found.items())


def _trade_off_figures(
    title: str, members: Sequence[CellResult], metric: str, metric_label: str, judge_quality: str
) -> Iterator[str]:
    lines = []
    counts = {len(one.columns) for one in members}
    for attack, cells in groupby(members, key=lambda one: one.cell.attack):
        some = list(cells)
        if len(counts) > 1:  # other images: it says so
            attack += f" ({len(some[0].columns)} images)"
        points = [
            (one.metrics[metric], _success_entry(one)) for one in some if metric in one.metrics
        ]
        if points:
            lines.append(_curve(attack, sorted(points, key=lambda point: _value(point[0]))))
    if len(lines) < 2 and not any(len(line.x) > 1 for line in lines):
        return
    for start in range(0, len(lines), len(SERIES_COLORS)):
        some_lines = lines[start : start + len(SERIES_COLORS)]
        alt = (
            f"{title}: success of {', '.join(line.name for line in some_lines)} over {metric_label}"
        )
        drawing = plot_curves(some_lines, metric_label, "success", alt=alt)
        more = f" Judge {judge_quality}." if judge_quality else ""
        told = f"{title}: {SUCCESS_LABEL}, over {metric_label}; the bands are 95 % intervals.{more}"
        yield figure(drawing, told)


def _success_entry(one: CellResult) -> MetricEntry:
    return one.metrics.get("success_of_right", one.metrics["success"])


def _value(entry: MetricEntry) -> float:
    return float(entry["value"] or 0)


def _curve(name: str, points: Sequence[tuple[MetricEntry, MetricEntry]]) -> Curve:
    gains = [gain for _, gain in points]
    x = [_value(at) for at, _ in points]
    return Curve(
        name,
        x,
        [_value(g) for g in gains],
        _bound_values(gains, "low"),
        _bound_values(gains, "high"),
    )


def _bound_values(entries: Sequence[MetricEntry], bound: str) -> list[float]:
    return [float(entry.get(bound, _value(entry))) for entry in entries]


def _sweep_figure(title: str, swept: Sequence[CellResult], judge_quality: str) -> str:
    x = [_attack_scale(one) for one in swept]
    told: list[tuple[str, Callable[[CellResult], MetricEntry | None]]] = [
        ("accuracy", lambda one: one.metrics["accuracy"]),
        (AGREEMENT_LABEL, lambda one: one.metrics.get("judge_agreement")),
        ("fooled while they do", lambda one: one.metrics.get("fooled_and_shown")),
    ]
    lines = []
    for name, of in told:
        entries = [entry for one in swept if (entry := of(one)) is not None]
        if len(entries) == len(swept):
            y = [_value(entry) for entry in entries]
            lines.append(
                Curve(name, x, y, _bound_values(entries, "low"), _bound_values(entries, "high"))
            )
    drawing = plot_curves(
        lines, "strength s_y", "share", alt=f"{title}: accuracy over s_y", log_x=min(x) > 0
    )
    more = f" Judge {judge_quality}." if judge_quality else ""
    caption = f"{title}: accuracy, and what the judges see, over the strength s_y.{more}"
    return figure(drawing, caption)
