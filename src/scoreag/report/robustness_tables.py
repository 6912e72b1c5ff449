"""The tables of an assessment: results, worst cases, transfer, sizes, classes, cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from scoreag.assess.metrics import CellResult
from scoreag.assess.plan import NONE
from scoreag.assess.results import (
    AssessmentResults,
    WorstCase,
    group_comparable,
)
from scoreag.assess.sanity_checks import digests_known, find_attacked_judges
from scoreag.methods.scale_search import AUTO
from scoreag.metrics.people_calibration import REAL_ONLY
from scoreag.report.html import class_name
from scoreag.report.robustness_figures import (
    NAME_COLUMNS,
    attack_name,
    attack_scale,
    attacked_cells,
    cell_label,
    describe_judges,
    has_several_groups,
    in_distribution_cells,
    model_names,
    name_fields,
    strongest_variants,
    value_of,
)
from scoreag.report.table_export import FieldValue, Rows, Table
from scoreag.stats.estimates import MetricEntry

BASELINE = "judge_agreement_before"
RESULT_COLUMNS = {
    "clean accuracy": "clean_accuracy",
    "robust accuracy": "accuracy",
    "attack success": "success",
    "attack success, of images correct before": "success_of_right",
    "label preserved": "judge_agreement",
    "reference classifier, clean accuracy": BASELINE,
    "attack success, label preserved": "fooled_and_shown",
}
REJECTION_COLUMNS = {"rejected": "rejected", "rejected before": "rejected_before"}
PERTURBATION_COLUMNS = {
    "LPIPS": "lpips", "SSIM": "ssim", "L2": "l2", "Linf": "linf", "PSNR": "psnr",
    "Frechet": "frechet", "kernel": "kernel",
}  # fmt: skip
SEMANTIC_COLUMNS = {
    "semantic": "semantic", "semantic before": "semantic_before",
    "in set": "semantic_in_set", "clear": "semantic_clear", "label preserved": "judge_agreement",
    "LPIPS": "lpips",
}  # fmt: skip
OOD_COLUMNS = {
    "prediction changed": "success", "confidence before": "confidence_before",
    "confidence after": "confidence", "L2": "l2",
}  # fmt: skip
COST_COLUMNS = {
    "NFE": "nfe", "classifier calls": "forwards", "gradients": "backwards",
    "restarts": "restarts", "seconds": "seconds", "memory, MB": "memory_mb",
}  # fmt: skip


def build_tables(assessment: AssessmentResults) -> list[Table]:
    """All tables that have a row, in the order of the page."""
    tables = [
        results_table(assessment), worst_case_table(assessment), randomized_table(assessment),
        *transfer_tables(assessment), differences_table(assessment),
        shown_differences_table(assessment),
        semantic_table(assessment), perturbation_table(assessment), *per_class_tables(assessment),
        generator_table(assessment), ood_table(assessment), cost_table(assessment),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _experiment_table(
    assessment: AssessmentResults, name: str, title: str, caption: str,
    cells: Sequence[CellResult], columns: Mapping[str, str],
) -> Table:  # fmt: skip
    """Names, number of images, and some metrics or costs of each experiment."""
    rows: Rows = []
    for one in cells:
        values: dict[str, FieldValue] = {**one.metrics, **one.cost}
        names = name_fields(assessment, one.cell)
        rows.append([*names, len(one.columns), *map(values.get, columns.values())])
    return _named_table(assessment, name, title, caption, ["images", *columns], rows)


def _named_table(
    assessment: AssessmentResults, name: str, title: str, caption: str, header: Sequence[str],
    rows: Rows, names: Sequence[str] = NAME_COLUMNS,
) -> Table:  # fmt: skip
    """A table whose rows begin with names: of the dataset, if there are several, and ``names``."""
    several = ["dataset"] if has_several_groups(assessment) else []
    columns = [*several, *names]
    return Table(name, title, caption, [*columns, *header], rows, names=len(columns))


def results_table(assessment: AssessmentResults) -> Table:
    cells = in_distribution_cells(assessment)
    can_reject = any(one.columns.rejected is not None for one in cells)
    columns = RESULT_COLUMNS | (REJECTION_COLUMNS if can_reject else {})
    has_judge = any(one.cell.reference_classifiers for one in assessment.cells)
    judging = f"; {_describe_independence(assessment)}" if has_judge else ""
    caption = (
        "Every experiment: dataset, classifier, purifier, attack. Rates of the saved 8-bit images "
        f"with 95 % intervals (Wilson){judging}. Label preserved: the reference classifiers "
        "predict the label. Experiments with other images, radii or attackers do not compare."
    )
    title = "Attack success and robust accuracy"
    table = _experiment_table(assessment, "cells", title, caption, cells, columns)
    position = table.header.index("reference classifier, clean accuracy")
    for one, row in zip(cells, table.rows, strict=True):
        if row[position] is None and "judge_agreement" in one.metrics:  # generated images
            row[position] = assessment.all_judges_accuracy.get(one.cell.group)
    return table


def _describe_independence(assessment: AssessmentResults) -> str:
    cells = [one.cell for one in assessment.cells]
    if any(find_attacked_judges(cell) for cell in cells):
        return "a reference classifier is attacked itself, see the sanity checks"
    if not digests_known(cells):
        return "whether a reference classifier is one of the attacked classifiers was not checked"
    return "by the digests of their weights, no reference classifier is attacked"


def worst_case_table(assessment: AssessmentResults) -> Table:
    """A row per defense; the attackers' copies of a purifier count together."""
    names = list(dict.fromkeys(name for one in assessment.defenses for name in one.randomized))
    families = group_comparable(assessment.defenses)
    several, short = has_several_groups(assessment), model_names(assessment)
    rows: Rows = [
        [*([one.group] if several else []), short[one.classifier], one.purifier,
         one.n_attacks, _comparison_letter(one, families), one.accuracy["total"], one.accuracy,
         *map(one.randomized.get, names)]
        for one in assessment.defenses
    ]  # fmt: skip
    caption = (
        "Images that stay correct under every attack of the plan: at one draw of the defense, and "
        "by several. Of a purifier all attackers count, however they differentiate. Only rows with "
        "the same letter had the same attacks, radii, images and attackers; no others compare."
    )
    title = "Worst-case robust accuracy (attack ensemble)"
    header = ["attacks", "comparable", "images", "correct under all", *map(_words, names)]
    return _named_table(
        assessment, "worst_case", title, caption, header, rows, ["classifier", "defense"]
    )


def _comparison_letter(one: WorstCase, families: Sequence[Sequence[WorstCase]]) -> str:
    """A letter that defenses with equal attacks share; "alone" where no other had the same."""
    letters = (chr(ord("A") + i) for i, members in enumerate(families[:26]) if one in members)
    return next(letters, "alone")


def randomized_table(assessment: AssessmentResults) -> Table:
    """A row per experiment; the columns of other numbers of draws stay empty."""
    metrics = [(one, _multi_draw_metrics(one)) for one in attacked_cells(assessment)]
    names = list(dict.fromkeys(name for _, own in metrics for name in own))
    names.sort(key=lambda name: not name.startswith("clean"))
    rows: Rows = [
        [*name_fields(assessment, one.cell), len(one.columns), one.gradient_mode or "none",
         "shared" if one.cell.shared_draw else "fresh", *map(own.get, names)]
        for one, own in metrics if own
    ]  # fmt: skip
    caption = (
        "Randomized classifiers, evaluated with fresh draws that no attack saw: correct on average "
        "(single), at every draw (worst), and by majority (vote). Gradient: the kind that the "
        "attacker took. A shared draw is the same one for the attacker and the evaluation."
    )
    header = ["images", "gradient", "draws", *map(_words, names)]
    title = "Randomized defenses"
    return _named_table(assessment, "randomized", title, caption, header, rows)


def _multi_draw_metrics(one: CellResult) -> Mapping[str, MetricEntry]:
    """Accuracies over several draws; of a shared draw those of that one."""
    metrics = one.metrics
    if one.cell.shared_draw and "clean_accuracy" in metrics:
        return {
            "clean_accuracy_single": metrics["clean_accuracy"],
            "attacked_accuracy_single": metrics["accuracy"],
        }
    prefixes = ("clean_accuracy_", "attacked_accuracy_")
    return {name: entry for name, entry in metrics.items() if name.startswith(prefixes)}


def _words(name: str) -> str:
    return name.replace("_", " ")


def transfer_tables(assessment: AssessmentResults) -> Iterator[Table]:
    """For each dataset: how often images made against one classifier fool each of them."""
    cells, short = in_distribution_cells(assessment), model_names(assessment)
    for group, members in groupby(cells, key=lambda one: one.cell.group):
        shown = [one for one in members if one.cell.purifier_name == NONE and len(one.transfer) > 1]
        names = sorted({name for one in shown for name in one.transfer})
        caption = (
            f"{group}: images made against one classifier, shown to each: how often it errs, of "
            "the images that it got right before; of all generated images."
        )
        rows: Rows = [
            [short[one.cell.classifier], attack_name(one.cell), *map(one.transfer.get, names)]
            for one in shown
        ]
        header = ["made against", "by", *(short.get(name, name) for name in names)]
        name, title = f"transfer_{group}", "Transferability"
        yield Table(name, title, caption, header, rows, names=2)


def differences_table(assessment: AssessmentResults) -> Table:
    caption = (
        "Success of an attack minus that of the first one in the same ball, on the same images "
        "(paired interval of Bonett and Price). Above 0 it is stronger. Attacks without a radius "
        "are compared with their own variants only."
    )
    title, header = "Paired comparison of attacks", ["against", "images", "difference"]
    rows = _difference_rows(assessment, assessment.differences)
    return _named_table(assessment, "differences", title, caption, header, rows)


def shown_differences_table(assessment: AssessmentResults) -> Table:
    caption = (
        "Images that fool while every reference classifier still sees the class: the attack that "
        "has most of them, minus each other one, on the same images that were correct before "
        "(paired interval of Bonett and Price)."
    )
    title = "Paired comparison of attacks, label preserved"
    header, names = ["against", "images", "difference"], [*NAME_COLUMNS[:-1], "best attack"]
    rows = _difference_rows(assessment, assessment.shown_differences)
    return _named_table(assessment, "shown_differences", title, caption, header, rows, names)


def _difference_rows(
    assessment: AssessmentResults, differences: Sequence[tuple[str, str, MetricEntry]]
) -> Rows:
    """Both attacks are on one classifier and defense."""
    cells = {one.cell.name: one.cell for one in assessment.cells}
    return [
        [*name_fields(assessment, cells[of]), attack_name(cells[other]), entry["total"], entry]
        for of, other, entry in differences
    ]


def semantic_table(assessment: AssessmentResults) -> Table:
    """What people would see, by the measure ``semantic``, beside the reference classifiers."""
    cells = [one for one in assessment.cells if "semantic" in one.metrics]
    caption = (
        "What people would see, by a mixture of networks that was fitted on people's answers: the "
        "mean share of people who would name the label; whether the label is among the classes "
        "that 9 in 10 random answers would be (in set), and the only one (clear). The measure is "
        f"{REAL_ONLY}: on attacked images it is an extrapolation."
    )
    title = "What people would see"
    return _experiment_table(assessment, "semantic", title, caption, cells, SEMANTIC_COLUMNS)


def perturbation_table(assessment: AssessmentResults) -> Table:
    cells = attacked_cells(assessment)
    measured = {name for one in cells for name in one.metrics}
    columns = {label: name for label, name in PERTURBATION_COLUMNS.items() if name in measured}
    shown = [one for one in cells if {*columns.values()} & {*one.metrics}]
    extractors = {
        str((one.cell.content.get("feature_extractor") or {}).get("name", "")) for one in cells
    }
    caption = (
        "Distance between original and attacked images: medians of L2, Linf and PSNR, means of "
        "SSIM and LPIPS, color values in [0, 1]. Frechet and kernel distances to the data, in the "
        f"features of: {', '.join(sorted(extractors - {''})) or 'none'}."
    )
    title = "Perturbation size"
    return _experiment_table(assessment, "perturbation_size", title, caption, shown, columns)


def per_class_tables(assessment: AssessmentResults) -> Iterator[Table]:
    """For the strongest variant of each attack, by the class that an image shows."""
    for one in strongest_variants(assessment):
        names = one.cell.classes
        rows: Rows = [
            [class_name(c["label"], names), c["success"], c.get("judge_agreement"),
             c.get(BASELINE),
             format_confusions(c["label"], c["becomes"], names, c.get("rejected", 0))]
            for c in one.per_class
            if sum(c["becomes"]) + c.get("rejected", 0)
        ]  # fmt: skip
        judging = describe_judges(assessment, one.cell.group)
        caption = cell_label(assessment, one.cell.name)
        caption += f". Reference classifier {judging}." if judging else "."
        header = ["class", "attack success", "label preserved",
                  "reference classifier, clean accuracy", "predicted as"]  # fmt: skip
        yield Table(f"classes_{one.cell.key}", "Per-class results", caption, header, rows)


def format_confusions(
    label: int, counts: Sequence[int], names: Sequence[str], rejected: int = 0
) -> str:
    """The three most frequent wrong predictions for images of ``label``, and the rejections."""
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    confused = [f"{class_name(i, names)} {counts[i]}" for i in order if i != label and counts[i]]
    rejections = [f"rejected {rejected}"] if rejected else []
    return ", ".join(confused[:3] + rejections) or "nothing else"


def generator_table(assessment: AssessmentResults) -> Table:
    """The classes by the quality of their samples, worst first, at the smallest fixed scale."""
    weakest: dict[str, CellResult] = {}
    for one in in_distribution_cells(assessment):
        if one.cell.task == "synthesize" and "judge_agreement" in one.metrics:
            group = one.cell.group
            weakest[group] = min(weakest.get(group, one), one, key=attack_scale)
    several = has_several_groups(assessment)
    rows: Rows = [
        [*([one.cell.group] if several else []), class_name(c["label"], one.cell.classes),
         f"{attack_scale(one):g}".replace("inf", AUTO), c["judge_agreement"]]
        for one in weakest.values()
        for c in sorted(one.per_class, key=lambda c: value_of(c["judge_agreement"]))
        if sum(c["becomes"])
    ]  # fmt: skip
    caption = (
        "How well the score model generates each class, worst first: the reference classifiers "
        "see the intended class, in the samples with the smallest fixed attack scale, or with "
        "searched ones. Reference "
        f"classifier {'; '.join(describe_judges(assessment, group) for group in weakest)}."
    )
    title, header = "Per-class generation quality", ["attack scale", "label preserved"]
    return _named_table(assessment, "generator", title, caption, header, rows, ["class"])


def ood_table(assessment: AssessmentResults) -> Table:
    cells = [one for one in attacked_cells(assessment) if one.cell.is_ood]
    caption = (
        "Images of another dataset, none of whose classes the classifier knows: how often its "
        "prediction changes, and its confidence (mean probability)."
    )
    title = "Out-of-distribution inputs"
    table = _experiment_table(assessment, "ood", title, caption, cells, OOD_COLUMNS)
    for one, row in zip(cells, table.rows, strict=True):
        row.insert(table.names, one.cell.data)
    header = [*table.header[: table.names], "data", *table.header[table.names :]]
    return replace(table, header=header)


def cost_table(assessment: AssessmentResults) -> Table:
    caption = (
        "Mean cost of an image, and the largest memory of a process. NFE: denoiser evaluations."
    )
    cells = attacked_cells(assessment)
    return _experiment_table(assessment, "cost", "Compute cost", caption, cells, COST_COLUMNS)
