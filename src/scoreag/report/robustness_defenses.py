"""The tables of defences: by several draws, by kind of gradient, and what all attacks leave."""

from collections.abc import Mapping, Sequence

from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults, CellResult, WorstCase, group_comparable
from scoreag.report.robustness_cells import attacked_cells, cell_label
from scoreag.report.table_export import FieldValue, Table
from scoreag.stats.estimates import MetricEntry


def randomized_table(assessment: AssessmentResults) -> Table:
    """A row a cell; where cells were judged by different counts of draws, fields stay empty."""
    told = [
        (one, found) for one in attacked_cells(assessment) if (found := _multi_draw_metrics(one))
    ]
    names = list(dict.fromkeys(name for _, found in told for name in found))
    names.sort(key=lambda name: not name.startswith("clean"))
    rows: list[list[FieldValue]] = [
        [cell_label(assessment, one.cell.name), len(one.columns), one.gradient_mode or "none",
         "fixed" if one.cell.shared_draw else "fresh", *(found.get(name) for name in names)]
        for one, found in told
    ]  # fmt: skip
    caption = (
        "Randomised classifiers, asked again with fresh draws that no attack saw: right on "
        "average (single), at every one of them (worst), and by their majority (vote). The "
        "gradient is the one that the attacker took; a fixed draw is the same one for attacker "
        "and judge."
    )
    header = ["cell", "images", "gradient", "draws", *(name.replace("_", " ") for name in names)]
    return Table("randomised", caption, header, rows)


def _multi_draw_metrics(one: CellResult) -> Mapping[str, MetricEntry]:
    """The figures of several draws; of a fixed draw those of that one."""
    figures = one.metrics
    if one.cell.shared_draw and "clean_accuracy" in figures:
        single = {"clean": figures["clean_accuracy"], "attacked": figures["accuracy"]}
        return {f"{name}_accuracy_single": entry for name, entry in single.items()}
    names = [n for n in figures if n.startswith(("clean_accuracy_", "attacked_accuracy_"))]
    return {name: figures[name] for name in names}


def defenses_table(assessment: AssessmentResults) -> Table:
    """A row a defence, whatever the attackers' copies were."""
    names = list(dict.fromkeys(name for left in assessment.defenses for name in left.randomized))
    families = group_comparable(assessment.defenses)
    rows: list[list[FieldValue]] = [
        [cell_label(assessment, f"{left.group}/{left.classifier}/{left.purifier}"), left.n_attacks,
         _comparison_group(left, families), left.accuracy["total"], left.accuracy,
         *(left.randomized.get(name) for name in names)]
        for left in assessment.defenses
    ]  # fmt: skip
    caption = (
        "Images that stay right whatever attack of the plan is used on them, the worst case: at "
        "one draw, and by several. Of a purifier all attackers count, however they differentiate. "
        "Only rows with the same letter were given the same attacks, radii, images and attackers: "
        "no others compare."
    )
    header = ["defence", "attacks", "treated as", "images", "right under all"]
    return Table("worst_case", caption, [*header, *(n.replace("_", " ") for n in names)], rows)


def _comparison_group(worst_case: WorstCase, families: Sequence[Sequence[WorstCase]]) -> str:
    """A letter that all defences of one treatment share; "alone" for one that no other had."""
    found = [i for i, members in enumerate(families) if worst_case in members]
    return chr(ord("A") + found[0]) if found and found[0] < 26 else "alone"


def describe_comparison(members: Sequence[WorstCase]) -> str:
    """What is left of defences that were treated alike, and whether one keeps more."""
    best, *others = sorted(members, key=lambda left: -(left.accuracy["value"] or 0))
    close = [left for left in others if left.accuracy["high"] >= best.accuracy["low"]]
    told = "; ".join(f"{_defense_name(left)} {_format_accuracy(left)}" for left in (best, *others))
    many = "attack" if best.n_attacks == 1 else f"{best.n_attacks} attacks"
    says = (
        f"Under the same {many} on the same {best.accuracy['total']} images, right whichever is "
        f"used (95 % intervals): {told}."
    )
    if not close:
        return f"{says} Most is left of {_defense_name(best)}."
    return (
        f"{says} The intervals of {_defense_name(best)} and {', '.join(map(_defense_name, close))} overlap: the "
        "difference is not established."
    )


def _defense_name(worst_case: WorstCase) -> str:
    return (
        worst_case.classifier
        if worst_case.purifier == NONE
        else f"{worst_case.classifier} behind {worst_case.purifier}"
    )


def _format_accuracy(worst_case: WorstCase) -> str:
    entry = worst_case.accuracy
    ends = f"{100 * entry['low']:.0f} to {100 * entry['high']:.0f} %"
    return f"{entry['count']} of {entry['total']} ({ends})"
