"""The tables of an assessment: what stands in each, from its reckoning."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.report.robustness_cells import (
    attacked_cells,
    cell_label,
    cell_title,
    describe_independence,
    describe_judges,
    in_distribution_cells,
    judge_baseline,
    strongest_variants,
)
from scoreag.report.robustness_defenses import defenses_table, randomized_table
from scoreag.report.table_export import FieldValue, Table

FROM_NOISE = "from nothing"
MAIN_COLUMNS = {  # the heading of each figure in the table of all cells
    "clean accuracy": "clean_accuracy",
    "accuracy": "accuracy",
    "fooled": "success",
    "fooled, of those right before": "success_of_right",
    "judges see the class": "judge_agreement",
    "judges right, untouched": "judge_agreement_before",
    "fooled, and judges see the class": "fooled_and_shown",
}
BASELINE_METRIC = "judge_agreement_before"
REJECTION_COLUMNS = {"rejected": "rejected", "rejected before": "rejected_before"}  # where any may
PERTURBATION_COLUMNS = {
    "LPIPS": "lpips", "SSIM": "ssim", "L2": "l2", "Linf": "linf", "PSNR": "psnr",
    "Frechet": "frechet", "kernel": "kernel",
}  # fmt: skip


def build_tables(assessment: AssessmentResults) -> list[Table]:
    """All that have a row."""
    made = [
        results_table(assessment), perturbation_table(assessment), randomized_table(assessment), defenses_table(assessment),
        *transfer_tables(assessment), differences_table(assessment), *per_class_tables(assessment), generator_table(assessment),
        ood_table(assessment), cost_table(assessment),
    ]  # fmt: skip
    return [table for table in made if table.rows]


def results_table(assessment: AssessmentResults) -> Table:
    may = any(one.columns.rejected is not None for one in in_distribution_cells(assessment))
    columns = MAIN_COLUMNS | (REJECTION_COLUMNS if may else {})
    rows: list[list[FieldValue]] = []
    for one in in_distribution_cells(assessment):
        rows.append(
            [
                cell_label(assessment, one.cell.name),
                len(one.columns),
                *(
                    judge_baseline(assessment, one)
                    if name == BASELINE_METRIC
                    else one.metrics.get(name)
                    for name in columns.values()
                ),
            ]
        )
    judging = (
        f"; {describe_independence(assessment)}"
        if any(one.cell.reference_classifiers for one in assessment.cells)
        else ""
    )
    caption = (
        "Every cell: set, classifier, purifier, attack. Shares with 95 % intervals (Wilson), of "
        f"the saved 8-bit images{judging}. Cells of other images, radii or attackers do not "
        "compare."
    )
    return Table("cells", caption, ["cell", "images", *columns], rows)


def perturbation_table(assessment: AssessmentResults) -> Table:
    used = {
        h: n
        for h, n in PERTURBATION_COLUMNS.items()
        if any(n in c.metrics for c in attacked_cells(assessment))
    }
    rows: list[list[FieldValue]] = [
        [
            cell_label(assessment, one.cell.name),
            len(one.columns),
            *(one.metrics.get(name) for name in used.values()),
        ]
        for one in attacked_cells(assessment)
        if any(name in one.metrics for name in used.values())
    ]
    extractors = {
        str((one.cell.content.get("features") or {}).get("name", ""))
        for one in attacked_cells(assessment)
    }
    caption = (
        "How far the images moved: medians of l2, linf and PSNR, means of SSIM and LPIPS, colour "
        "values in [0, 1]. Frechet and kernel distances of the images to those of the data, in "
        f"features of: {', '.join(sorted(extractors - {''})) or 'none'}."
    )
    return Table("changes", caption, ["cell", "images", *used], rows)


def transfer_tables(assessment: AssessmentResults) -> Iterator[Table]:
    """For each set: images made against one classifier, shown to all."""
    for group, members in groupby(
        in_distribution_cells(assessment), key=lambda one: one.cell.group
    ):
        rows = [one for one in members if one.cell.purifier_name == NONE and len(one.transfer) > 1]
        words = sorted({word for one in rows for word in one.transfer})
        caption = (
            f"{group}: images made against one classifier, shown to each: how often it errs, of "
            "the images that it got right before; of all, where images are made from nothing."
        )
        fields: list[list[FieldValue]] = [
            [cell_title(one), *(one.transfer.get(word) for word in words)] for one in rows
        ]
        yield Table(f"transfer_{group}", caption, ["made against, by", *words], fields)


def differences_table(assessment: AssessmentResults) -> Table:
    rows: list[list[FieldValue]] = [
        [cell_label(assessment, of), cell_label(assessment, minus), entry["total"], entry]
        for of, minus, entry in assessment.differences
    ]
    caption = (
        "Success of an attack minus that of the first one in the same ball, on the same images "
        "(paired interval of Bonett and Price): above 0 it fools more often. Attacks without a "
        "radius are held against variants of their own only."
    )
    return Table("differences", caption, ["attack", "against", "images", "difference"], rows)


def per_class_tables(assessment: AssessmentResults) -> Iterator[Table]:
    """For each attack at its most telling, by the class that an image shows."""
    for one in strongest_variants(assessment):
        names = one.cell.classes
        rows: list[list[FieldValue]] = [
            [_class_name(found["label"], names), found["success"], found.get("judge_agreement"),
             found.get("judge_agreement_before"),
             format_confusions(found["label"], found["becomes"], names, found.get("rejected", 0))]
            for found in one.per_class
            if sum(found["becomes"]) + found.get("rejected", 0)
        ]  # fmt: skip
        judging = describe_judges(assessment, one.cell.group)
        caption = (
            f"{cell_label(assessment, one.cell.name)}, class by class{'. Judge ' * bool(judging)}"
        )
        caption += f"{judging}."
        header = ["class", "fooled", "judges see the class", "judges right, untouched", "taken for"]
        yield Table(f"classes_{one.cell.key}", caption, header, rows)


def format_confusions(
    label: int, counts: Sequence[int], names: Sequence[str], rejected: int = 0
) -> str:
    """The three classes that images of ``label`` are taken for most often, itself left out."""
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    found = [f"{_class_name(i, names)} {counts[i]}" for i in order if i != label and counts[i]]
    more = [f"rejected {rejected}"] if rejected else []
    return ", ".join(found[:3] + more) or "nothing else"


def generator_table(assessment: AssessmentResults) -> Table:
    """Which classes the score model draws badly: judged where guidance is weakest."""
    weakest: dict[str, CellResult] = {}
    for one in in_distribution_cells(assessment):
        if one.cell.task != "synthesize" or "judge_agreement" not in one.metrics:
            continue
        held = weakest.get(one.cell.group)
        if held is None or _attack_scale(one) < _attack_scale(held):
            weakest[one.cell.group] = one
    rows: list[list[FieldValue]] = []
    for one in weakest.values():
        ranked = sorted(one.per_class, key=lambda found: found["judge_agreement"]["value"] or 0)
        rows += [
            [f"{one.cell.group}: {_class_name(found['label'], one.cell.classes)}",
             f"{_attack_scale(one):g}", found["judge_agreement"]]
            for found in ranked
            if sum(found["becomes"])
        ]  # fmt: skip
    caption = (
        "How well the score model serves each class, worst first: the judges see the class that "
        "was asked for, in the draws with the least guidance. Judge "
        f"{'; '.join(describe_judges(assessment, group) for group in weakest)}."
    )
    return Table("generator", caption, ["class", "attack_scale", "judges see the class"], rows)


def _attack_scale(one: CellResult) -> float:
    return float(one.cell.options.get("attack_scale", 0))


def ood_table(assessment: AssessmentResults) -> Table:
    names = {"answer changed": "success", "sure before": "confidence_before",
             "sure after": "confidence", "L2": "l2"}  # fmt: skip
    rows: list[list[FieldValue]] = [
        [
            cell_label(assessment, one.cell.name),
            one.cell.data,
            len(one.columns),
            *(one.metrics.get(n) for n in names.values()),
        ]
        for one in attacked_cells(assessment)
        if one.cell.is_ood
    ]
    caption = (
        "Images of another data set, none of whose classes the classifier knows: how often its "
        "answer changes, and how sure it is of it (mean probability)."
    )
    return Table("strangers", caption, ["cell", "data", "images", *names], rows)


def cost_table(assessment: AssessmentResults) -> Table:
    names = {"score-model calls": "nfe", "classifier calls": "forwards",
             "gradients": "backwards", "restarts": "restarts", "seconds": "seconds",
             "memory, MB": "memory_mb"}  # fmt: skip
    rows: list[list[FieldValue]] = [
        [
            cell_label(assessment, one.cell.name),
            len(one.columns),
            *(one.cost.get(name) for name in names.values()),
        ]
        for one in attacked_cells(assessment)
    ]
    caption = "What an image cost on average, and the most memory of a process."
    return Table("cost", caption, ["cell", "images", *names], rows)


def _class_name(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else f"class {label}"
