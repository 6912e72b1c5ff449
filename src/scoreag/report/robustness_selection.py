"""Which experiments of an assessment a table or a figure is about, and what it calls them."""

from scoreag.assess.experiments import CLEAN
from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.stats.estimates import MetricEntry


def attacked_cells(assessment: AssessmentResults) -> list[CellResult]:
    """The experiments that have rows, without those on unchanged images."""
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


def cell_label(assessment: AssessmentResults, name: str) -> str:
    """The name of an experiment, without its dataset where there is only one."""
    groups = {one.cell.group for one in assessment.cells}
    return name if len(groups) > 1 else name.partition("/")[2]


def describe_judges(assessment: AssessmentResults, group: str) -> str:
    """How good the reference classifiers of a dataset are; "" where it has none."""
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


def attack_scale(one: CellResult) -> float:
    return float(one.cell.options.get("attack_scale", 0))
